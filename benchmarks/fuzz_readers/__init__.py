"""The readers that `benchmarks.fuzz` tries, each with files that it reads."""

from collections.abc import Mapping

from benchmarks.fuzz_readers import folders, pictures, texts, weights
from benchmarks.fuzz_readers.reader import Files as Files
from benchmarks.fuzz_readers.reader import Reader as Reader

READERS: Mapping[str, Reader] = {
    **pictures.READERS,
    **texts.READERS,
    **weights.READERS,
    **folders.READERS,
}
