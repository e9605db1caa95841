"""What planes are like: gathered while they are written, put in words and on a sheet."""
