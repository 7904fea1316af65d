"""What reading a damaged ZIP raises: the library and its decompressors have no error in common."""

import lzma
import struct
import zipfile
import zlib

DAMAGED = (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
