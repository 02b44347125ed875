"""What a file's name says: a photo, a list of photos, or neither. What a photo is its content tells."""

import fnmatch
from collections.abc import Callable, Sequence

_PHOTOS = """
    .jpg .jpeg .jpe .jfif .png .webp .tif .tiff .gif .bmp .dib .ppm .pgm .pbm .pnm .heic .heif .hif .avif
    .dng .nef .cr2 .cr3 .arw .orf .rw2 .raf .pef .srw"""
PHOTOS = frozenset(_PHOTOS.split())
"""Endings of photos. Files with other endings may be photos, too."""

TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of lists that may come in parts, as a folder of nothing else."""

LISTS = (*TABLES, ".txt", ".list", ".lst", ".json")
"""Endings of lists; each also with .gz behind it."""

# Texts, tables and annotations; data and meshes; programs; what cameras, phones and editors leave beside
# photos; films, sounds, documents, archives.
_OTHERS = """
    .txt .md .rst .log .csv .tsv .json .jsonl .ndjson .geojson .xml .xmp .yaml .yml .toml .ini .cfg .conf
    .list .lst .html .htm .xhtml .css .rtf .tex .bib .srt .vtt .pts .lms .cat .lbl .ann .names .sha256 .md5
    .npy .npz .mat .h5 .hdf5 .parquet .arrow .feather .pkl .pickle .pt .pth .ckpt .onnx .safetensors .db
    .sqlite .sqlite3 .tfrecord .lmdb .mdb .obj .mtl .ply .stl .glb .gltf .fbx .usdz
    .py .pyc .ipynb .sh .bat .ps1 .js .ts .php .c .cc .cpp .h .hpp .rs .go .java .m .r .exe .dll .so
    .aae .thm .lrv .dop .pp3 .cos .on1 .lrcat .lrdata .lrprev .ctg .moff .modd .pmp .thumb .tmp
    .part .crdownload .lnk .url .webloc .torrent .icc .icm .cube .lut
    .mp4 .mov .m4v .avi .mkv .webm .wmv .mts .m2ts .mpg .mpeg .3gp .wav .mp3 .m4a .aac .flac .ogg .opus
    .pdf .doc .docx .odt .xls .xlsx .ods .ppt .pptx
    .zip .tar .tgz .gz .bz2 .xz .zst .7z .rar .iso .dmg"""
OTHERS = frozenset(_OTHERS.split())
"""Endings of what is no photo."""

_OTHER_NAMES = """
    thumbs.db ehthumbs.db desktop.ini readme license licence copying notice changelog makefile dockerfile
    checksums sha256sums md5sums _success _committed _started _metadata _common_metadata"""
OTHER_NAMES = frozenset([*_OTHER_NAMES.split(), "icon\r"])
"""Whole names of what is no photo, in lower case. Names that begin with a dot are left out as hidden."""

_HIDDEN = "@eadir @recycle #recycle $recycle.bin __macosx lost+found"
HIDDEN = frozenset([*_HIDDEN.split(), "system volume information"])
"""Folders in which systems keep thumbnails and what was deleted, in lower case."""


def ending(name: str) -> str:
    """Returns the last ending of a path in lower case, with its dot; "" where there is none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


def is_hidden_name(name: str) -> bool:
    """Whether a name is one that systems hide: of a file or a folder."""
    return name.startswith(".") or name.lower() in HIDDEN


def is_list_name(name: str, endings: tuple[str, ...] = LISTS) -> bool:
    """Whether a path ends as a list does, gzip or not."""
    return name.lower().removesuffix(".gz").endswith(endings)


def is_photo_name(name: str) -> bool:
    """Whether a path ends as photos do."""
    return ending(name) in PHOTOS


def is_other_name(name: str) -> bool:
    """Whether a path says that it is no photo."""
    return ending(name) in OTHERS or name.rpartition("/")[2].lower() in OTHER_NAMES


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Returns what tells whether a path below the input matches one of some patterns, whatever its case.

    A pattern without a slash is compared with the file's name and the name of every folder above it, one
    with a slash with the whole path; * and ? then match slashes, too.
    """
    lower = [pattern.lower().removeprefix("./") for pattern in patterns]
    names = [pattern for pattern in lower if "/" not in pattern.rstrip("/")]
    paths = [pattern for pattern in lower if "/" in pattern.rstrip("/")]

    def matches(path: str) -> bool:
        path = path.lower()
        parts = path.split("/")
        return any(fnmatch.fnmatchcase(part, p.rstrip("/")) for p in names for part in parts) or any(
            fnmatch.fnmatchcase(path, p + "*" if p.endswith("/") else p.lstrip("/")) for p in paths
        )

    return matches
