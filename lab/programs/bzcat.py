"""`bzcat FILE`: busybox's in the cloud; a slim Linux has none, and the lab promises PyPI alone."""

import bz2
import sys
from pathlib import Path

if __name__ == "__main__":
    [file] = sys.argv[1:]
    try:
        sys.stdout.buffer.write(bz2.decompress(Path(file).read_bytes()))
    except (OSError, ValueError) as error:
        sys.exit(f"bzcat: {file}: {error}")
