"""The TIFF floor: describes files, orders folders, decodes regions, encodes pages.

No other part of the library imports tifffile or imagecodecs.

Glossary
--------
page
    One image file directory (IFD) of a file.
plane
    One z-section: the page that holds it.
series, level
    Pages that belong together; a resolution of them.
segment
    A strip or a tile: what is compressed on its own.
"""
