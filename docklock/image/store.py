"""The image store, read side: which image a name means, and what it is made of.

ROOT/images is an OCI image layout: `oci-layout`, `index.json`, `blobs/sha256/HEX`. Beside it
`layers/HEX/fs` holds each layer unpacked, HEX being its diff_id; these are overlayfs lower dirs.
Not here: writing (staging), unpacking (unpack), removing (remove).
Everything in index.json was checked when it came in, so digests are not computed again: whoever can
write there is root on this host. This module is on the path of `docklock run`: os and json only.
Source: OCI image-spec 1.1, image-layout.md, manifest.md, config.md.
"""

from __future__ import annotations

from chainlite.errors import SpecError, StateError
from chainlite.lean import NamedTuple
from docklock.document import Cursor, parse_document
from docklock.image.reference import Reference, is_digest, is_hex, parse_reference
from docklock.paths import Paths
from docklock.small_file import read_small

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_ID = "dev.docklock.image.id"
IMAGE_SIZE = "dev.docklock.image.size"
LAYERS_MAX = 127
SIZE_MAX_BYTES = 1 << 62


class ImageConfig(NamedTuple):
    """What the image asks of a container: the `config` object of the OCI image configuration."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    exposed: tuple[str, ...] = ()
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    health: tuple[object, ...] = ()  # docklock.health.Check, if the image has one


class Entry(NamedTuple):
    """One descriptor of index.json. `reference` is empty for an image that lost its name."""

    reference: str
    image_id: str
    digest: str
    media_type: str
    manifest_bytes: int
    image_bytes: int


class Image(NamedTuple):
    """An image of the store. `layers` are absolute directories, topmost first, as overlayfs wants.

    `id` is the digest of its configuration, `digest` that of its manifest; both start `sha256:`.
    """

    id: str
    digest: str
    references: tuple[str, ...]
    config: ImageConfig
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    created: str
    size_bytes: int
    architecture: str


class NoSuchImage(StateError):
    """The store has no image of that name or ID."""


class ImageStore:
    """Reads the store of one installation; keeps nothing open."""

    def __init__(self, paths: Paths) -> None:
        self.root = paths.images

    def blob(self, digest: str) -> str:
        return f"{self.root}/blobs/sha256/{digest[7:]}"

    def layer(self, diff_id: str) -> str:
        return f"{self.root}/layers/{diff_id[7:]}"

    def list_entries(self) -> tuple[Entry, ...]:
        """Every descriptor, in the order of index.json; none for a store not made yet."""
        where = f"{self.root}/index.json"
        try:
            data = read_small(where)
        except FileNotFoundError:
            return ()
        manifests = parse_document(data, where).get("manifests").as_list()
        return tuple(_parse_entry(item) for item in manifests)

    def resolve(self, text: str) -> Image:
        """The image a name, an ID or the start of an ID means; StateError if there is none."""
        entries = self.list_entries()
        return self.read_image(find_entry(entries, text), entries)

    def read_document(self, digest: str) -> Cursor:
        """A manifest or a configuration."""
        where = self.blob(digest)
        try:
            return parse_document(read_small(where), where)
        except FileNotFoundError:
            advice = "`docklock rmi -f` its image and load it again"
            raise SpecError(f"{where}: missing, though index.json needs it: {advice}") from None

    def read_image(self, entry: Entry, entries: tuple[Entry, ...]) -> Image:
        """The image behind one descriptor; `entries` gives its other names."""
        return self._read(entry, _list_names(entries).get(entry.image_id, ()))

    def read_images(self, entries: tuple[Entry, ...], among: tuple[Entry, ...]) -> list[Image]:
        """The image behind each of `entries`; `among` gives their other names."""
        names = _list_names(among)
        return [self._read(entry, names.get(entry.image_id, ())) for entry in entries]

    def _read(self, entry: Entry, names: tuple[str, ...]) -> Image:
        document = self.read_document(entry.image_id)
        diff_ids = parse_diff_ids(document)
        return Image(
            id=entry.image_id,
            digest=entry.digest,
            references=names,
            config=parse_image_config(document.get("config")),
            # overlayfs refuses a directory that stands twice; the upper one says it all.
            layers=tuple(f"{self.layer(item)}/fs" for item in dict.fromkeys(diff_ids[::-1])),
            diff_ids=diff_ids,
            created=document.get("created").as_str(""),
            size_bytes=entry.image_bytes,
            architecture=document.get("architecture").as_str(""),
        )


def _list_names(entries: tuple[Entry, ...]) -> dict[str, tuple[str, ...]]:
    """By image id."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        if entry.reference:
            names.setdefault(entry.image_id, []).append(entry.reference)
    return {image_id: tuple(found) for image_id, found in names.items()}


def find_entry(entries: tuple[Entry, ...], text: str) -> Entry:
    """By full ID, then by name, then by the start of an ID, in Docker's order."""
    image_id = text if text.startswith("sha256:") else f"sha256:{text}"
    if is_digest(image_id):
        return _pick(text, [item for item in entries if item.image_id == image_id], entries)
    if text.startswith("sha256:"):
        return _pick(text, [item for item in entries if item.image_id.startswith(text)], entries)
    reference = parse_reference(text)
    named = [item for item in entries if _is_match(item, reference)]
    if not named and text and is_hex(text, size=len(text)):
        named = [item for item in entries if item.image_id.startswith(image_id)]
    return _pick(text, named, entries)


def parse_image_config(config: Cursor) -> ImageConfig:
    """The `config` object; Docker writes null for what is absent."""
    return ImageConfig(
        entrypoint=config.get("Entrypoint").as_strings(),
        cmd=config.get("Cmd").as_strings(),
        env=config.get("Env").as_strings(),
        cwd=config.get("WorkingDir").as_str(""),
        user=config.get("User").as_str(""),
        labels=tuple(config.get("Labels").as_string_map().items()),
        exposed=tuple(config.get("ExposedPorts").as_map()),
        stop_signal=config.get("StopSignal").as_str(""),
        volumes=tuple(config.get("Volumes").as_map()),
        health=_read_health(config.get("Healthcheck")),
    )


def _read_health(cursor: Cursor) -> tuple[object, ...]:
    if not cursor.exists:
        return ()
    from docklock.health import read_image_check

    return read_image_check(cursor)


def parse_diff_ids(document: Cursor) -> tuple[str, ...]:
    """The layers of an image configuration, lowest first, as it lists them."""
    rootfs = document.required("rootfs")
    found = rootfs.required("diff_ids").as_list()
    if len(found) > LAYERS_MAX:
        raise rootfs.error(f"{len(found)} layers, at most {LAYERS_MAX} can be stacked")
    return tuple(parse_digest(item) for item in found)


def parse_digest(item: Cursor) -> str:
    """A sha256 digest: the only algorithm that images in use have."""
    text = item.as_str()
    if not is_digest(text):
        raise item.error(f"expected sha256: and 64 lower-case hexadecimal digits, got {text!r}")
    return text


def _parse_entry(item: Cursor) -> Entry:
    notes = item.get("annotations")
    return Entry(
        reference=notes.get(REF_NAME).as_str(""),
        image_id=parse_digest(notes.required(IMAGE_ID)),
        digest=parse_digest(item.required("digest")),
        media_type=item.required("mediaType").as_str(),
        manifest_bytes=item.required("size").as_int(0, SIZE_MAX_BYTES),
        image_bytes=_parse_count(notes.required(IMAGE_SIZE)),
    )


def _parse_count(item: Cursor) -> int:
    text = item.as_str()
    if not (text.isascii() and text.isdigit()):
        raise item.error(f"expected decimal digits, got {text!r}")
    return int(text)


def _is_match(entry: Entry, reference: Reference) -> bool:
    if entry.reference == reference.text or not reference.digest:
        return entry.reference == reference.text
    name = entry.reference[: entry.reference.rfind(":")]
    return name == reference.name and entry.digest == reference.digest


def suggest_name(text: str, entries: tuple[Entry, ...]) -> str:
    """`, did you mean X?` for an image's name that is not here, or nothing."""
    from docklock.image.reference import get_familiar_name, split_full
    from docklock.nearest import suggest

    named = [item.reference for item in entries if item.reference]
    known = (*named, *(split_full(name)[0] for name in named))
    return suggest(text, dict.fromkeys(map(get_familiar_name, known)))


def _pick(text: str, found: list[Entry], entries: tuple[Entry, ...]) -> Entry:
    if not found:
        hint = suggest_name(text, entries) or ": see `docklock images`, `import` and `load`"
        raise NoSuchImage(f"No such image: {text}{hint}")
    if len({item.image_id for item in found}) > 1:
        raise StateError(f"{text} is the start of {len(found)} image IDs: give more digits")
    return found[0]
