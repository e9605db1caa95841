"""How the sheet of a volume looks: its style sheet, light and dark, on a screen and in print."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f5f6f8; --ink: #1b1f24; --dim: #626b76;
  --rule: #d9dde3; --line: #1f6feb; --alt: #b3541e; --bad: #c62f2f;
  --warn: #a86500; --same: #7a3fc0; --good: #2b7a3d }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2127; --ink: #e4e7eb;
  --dim: #98a2ae; --rule: #343a43; --line: #6ea8ff; --alt: #f0955c; --bad: #ff7b72; --warn: #e3b341;
  --same: #c9a7ff; --good: #6fcf87 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 24px 28px; max-width: 1120px; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 17px; margin: 26px 0 8px }
.sub, footer, figcaption, .note { color: var(--dim) }
.sub { margin: 2px 0 16px; overflow-wrap: anywhere }
.findings { margin: 0; padding: 12px 18px; list-style: none; border-radius: 8px;
  background: var(--card); border-left: 5px solid var(--warn) }
.findings.none { border-color: var(--good) }
.findings li + li { margin-top: 6px }
.block { display: flex; flex-wrap: wrap; gap: 20px 28px; align-items: flex-start;
  break-inside: avoid; margin-top: 20px } h2 + .block { margin-top: 0 }
.pictures { flex: 0 0 384px } .charts { flex: 1 1 480px; min-width: 0 }
figure { margin: 0 0 14px; break-inside: avoid }
figcaption { font-size: 13px; display: flex; flex-wrap: wrap; gap: 2px 14px }
figcaption b { color: var(--ink); font-weight: 600 }
.ortho { display: grid; gap: 4px; justify-content: start; align-items: start }
.ortho div { position: relative }
.ortho img { display: block; background: #000 }
.bar { position: absolute; right: 8px; bottom: 6px; color: #fff; font-size: 11px; line-height: 1.2;
  text-align: center; text-shadow: 0 0 3px #000, 0 0 3px #000; border-bottom: 3px solid #fff }
svg { display: block; width: 100%; height: auto }
svg text { font-size: 11px; fill: var(--dim) } svg .small { font-size: 8px }
.grid { stroke: var(--rule); fill: none } .axis { stroke: var(--dim); fill: none }
.line { fill: none; stroke-width: 1.6; stroke: var(--line); stroke-linejoin: round }
.band { fill: var(--line); stroke: none }
.outer { opacity: .16 } .inner { opacity: .3 }
.line.mean { stroke: var(--alt); stroke-dasharray: 4 3 }
.line.max { stroke: var(--alt) } .line.hot { stroke: var(--bad) }
.mark.blank { fill: var(--warn) } .mark.same { fill: var(--same) } .mark.filled { fill: var(--bad) }
.bars { fill: var(--line) }
.key { white-space: nowrap } .key i { display: inline-block; width: 16px; height: 0;
  margin-right: 5px; vertical-align: 4px; border-top: 2px solid var(--line) }
.key i.outer, .key i.inner { height: 9px; border: 0; background: var(--line); vertical-align: -1px }
.key i.mean { border-top: 2px dashed var(--alt) } .key i.max { border-color: var(--alt) }
.key i.hot { border-color: var(--bad) }
.key i.blank, .key i.same, .key i.filled { width: 0; border: 5px solid transparent; border-top: 0;
  border-bottom: 8px solid var(--warn); vertical-align: 0 }
.key i.same { border-bottom-color: var(--same) } .key i.filled { border-bottom-color: var(--bad) }
table { border-collapse: collapse } td, th { padding: 2px 16px 2px 0; text-align: right }
th { color: var(--dim); font-weight: 400 }
footer { margin-top: 24px; padding-top: 10px; border-top: 1px solid var(--rule); font-size: 13px }
@media print { :root { --back: #fff; --card: #f5f6f8; --ink: #000; --dim: #444; --rule: #ccc;
  --line: #1f6feb; --alt: #b3541e; --bad: #c62f2f; --warn: #a86500; --same: #7a3fc0;
  --good: #2b7a3d }
  body { padding: 0; max-width: none; zoom: .62; -webkit-print-color-adjust: exact;
  print-color-adjust: exact } }
"""
