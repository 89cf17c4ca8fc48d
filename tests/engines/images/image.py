"""Images without a container engine and without a registry.

An image is an archive in the layout that ``docker save`` writes since release 25: the folders of an
OCI image plus the older ``manifest.json``. So the same file is read by ``ctr images import``, by
``kind load image-archive``, by ``docker load`` and by ``podman load``. Because the OCI manifest is
written here, its digest is known before any container runtime has seen the image, and an import can
be left out where the runtime already has exactly this image.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engines.engine import EngineError

CONTAINERD_SOCKET = Path("/run/integr8s/containerd.sock")
"""Not below STATE: a path of a socket has room for 107 characters, a checkout may lie deeper."""

NAMESPACE = "k8s.io"
"""Where the kubelet's images are; containerd keeps the images of other namespaces apart."""

_CTR_SECONDS = 120
"""Many times what the largest import takes; the runtime hangs if it takes longer."""

_EPOCH = "1970-01-01T00:00:00Z"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Layer:
    """One layer of an image: an uncompressed tar on disk, and what its bytes hash to."""

    archive: Path
    digest: str
    """Hexadecimal, without ``sha256:`` in front."""

    @classmethod
    def of_archive(cls, archive: Path) -> "Layer":
        """Take a tar that exists as a layer."""
        with archive.open("rb") as file:
            return cls(archive, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class Config:
    """How a container of the image starts unless its pod says otherwise."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "65532"
    """A number: a name cannot be proved to be another than root, and runAsNonRoot refuses it."""
    folder: str = "/"


def write_layer(
    archive: Path, content: Mapping[str, Path | None], *, keep_times: bool = True
) -> Layer:
    """Write a layer; the same content gives the same digest.

    Owners become root and the order is by name. Folders lose their time, files keep theirs: a
    ``.pyc`` file remembers the time of its source, and is compiled again at every start of a
    container if that time is gone.

    Args:
        archive: The tar to write.
        content: From the path in the image, without a slash in front, to what is put there: a file,
            a folder with all that is in it ("" as its path is the root itself), or None for an
            empty folder that everybody may write into, as ``/tmp`` is.
        keep_times: False where nothing in it looks at times, so that a rebuilt file of equal
            content is an equal layer.
    """

    def cleaned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = int(member.mtime) if keep_times and not member.isdir() else 0
        return member

    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, source in sorted(content.items()):
            if source is None:
                tar.addfile(_open_folder(name))
            elif name:
                _add_parents(tar, name)
                tar.add(source, name, filter=cleaned)
            else:
                for entry in sorted(source.iterdir()):
                    tar.add(entry, entry.name, filter=cleaned)
    return Layer.of_archive(archive)


def _open_folder(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o1777
    return member


def _add_parents(tar: tarfile.TarFile, name: str) -> None:
    """Without an entry of their own, parents would be made with the umask of whoever unpacks."""
    known = set(tar.getnames())
    for parent in reversed([str(path) for path in Path(name).parents][:-1]):
        if parent not in known:
            member = tarfile.TarInfo(parent)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)


def write_image(archive: Path, *, tag: str, layers: Sequence[Layer], config: Config) -> str:
    """Write an image archive and return its digest, ``sha256:`` included.

    Args:
        archive: The file to write.
        tag: The name pods use, with its host part, such as ``localhost/pause:1``.
        layers: The lowest first.
        config: How a container of it starts.
    """
    config_blob = _json(_image_config(layers, config))
    manifest_blob = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config_blob),
            "layers": [
                {
                    "mediaType": _LAYER,
                    "digest": f"sha256:{layer.digest}",
                    "size": layer.archive.stat().st_size,
                }
                for layer in layers
            ],
        }
    )
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        # First, so that asking an archive for its digest does not read all of it.
        _add_text(tar, "index.json", _json(_index(tag, manifest_blob)))
        _add_text(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add_text(tar, "manifest.json", _json(_docker_manifest(tag, layers, config_blob)))
        for blob in (manifest_blob, config_blob):
            _add_text(tar, _blob_path(_digest(blob)), blob)
        for layer in {layer.digest: layer for layer in layers}.values():
            _add_layer(tar, layer)
    return f"sha256:{_digest(manifest_blob)}"


def _image_config(layers: Sequence[Layer], config: Config) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": _EPOCH,
        "config": {
            "User": config.user,
            "Entrypoint": list(config.entrypoint) or None,
            "Cmd": list(config.command) or None,
            "Env": [f"{name}={value}" for name, value in sorted(config.environment.items())],
            "WorkingDir": config.folder,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
        "history": [{"created": _EPOCH} for _ in layers],
    }


def _index(tag: str, manifest_blob: bytes) -> dict[str, Any]:
    names = {
        "io.containerd.image.name": tag,
        "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
    }
    return {
        "schemaVersion": 2,
        "mediaType": _INDEX,
        "manifests": [_descriptor(_MANIFEST, manifest_blob) | {"annotations": names}],
    }


def _docker_manifest(tag: str, layers: Sequence[Layer], config_blob: bytes) -> list[dict[str, Any]]:
    return [
        {
            "Config": _blob_path(_digest(config_blob)),
            "RepoTags": [tag],
            "Layers": [_blob_path(layer.digest) for layer in layers],
        }
    ]


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{_digest(blob)}", "size": len(blob)}


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _add_text(tar: tarfile.TarFile, name: str, text: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text)
    tar.addfile(member, io.BytesIO(text))


def _add_layer(tar: tarfile.TarFile, layer: Layer) -> None:
    member = tarfile.TarInfo(_blob_path(layer.digest))
    member.size = layer.archive.stat().st_size
    with layer.archive.open("rb") as file:
        tar.addfile(member, file)


@dataclass(frozen=True)
class Identity:
    """What an archive calls its image."""

    tag: str
    digest: str
    """Of the manifest, with ``sha256:``; the one ``ctr images ls`` shows."""
    config_digest: str
    """Of the config, with ``sha256:``; the one the kubelet reports as the image's id."""


def identity(archive: Path) -> Identity:
    """Read from an archive written here which image it holds."""
    with tarfile.open(archive) as tar:
        index = _member(tar, "index.json")["manifests"][0]
        manifest = _member(tar, _blob_path(index["digest"].removeprefix("sha256:")))
    return Identity(
        tag=index["annotations"]["io.containerd.image.name"],
        digest=index["digest"],
        config_digest=manifest["config"]["digest"],
    )


def _member(tar: tarfile.TarFile, name: str) -> Any:
    # Not getmember: that reads the headers of the whole archive before it answers.
    for member in tar:
        file = tar.extractfile(member) if member.name == name else None
        if file is not None:
            return json.load(file)
    raise EngineError(f"{Path(str(tar.name))} is no image archive of ours: it has no {name}")


def import_image(archive: Path, ref: str | None = None) -> bool:
    """Give an image to the running containerd; the kubelet finds it when this returns.

    Args:
        archive: Written by `write_image`.
        ref: The name pods use; without it the tag in the archive.

    Returns:
        False if containerd had exactly this image under this name and nothing was done.
    """
    image = identity(archive)
    name = ref or image.tag
    known = imported()
    if known.get(name) == image.digest:
        return False
    for taken in {name, image.tag}:
        # A name that moves to another image keeps its mark as one that the kubelet knows, and the
        # kubelet's part of containerd would pass over the new one.
        if known.get(taken, image.digest) != image.digest:
            remove_image(taken)
    if known.get(image.tag) != image.digest:
        ctr("images", "import", str(archive))
    if name != image.tag:
        ctr("images", "tag", "--force", image.tag, name)
    _wait_until_kubelet_sees(name, image)
    return True


def imported() -> dict[str, str]:
    """Return the digest of each image that containerd has, by its name."""
    lines = ctr("images", "ls").splitlines()[1:]
    return {fields[0]: fields[2] for fields in (line.split() for line in lines)}


def remove_image(ref: str) -> None:
    """Take a name away; the image goes with its last one, its layers when nobody uses them."""
    ctr("images", "rm", ref)


def remove_nameless_images() -> None:
    """Remove what was imported once and whose name has moved on to a newer image.

    The kubelet's part of containerd keeps each under a name of its own, a digest, for ever; and
    nobody else clears up, because the kubelet is told not to.
    """
    known = imported()
    named = {digest for name, digest in known.items() if not name.startswith("sha256:")}
    for name, digest in known.items():
        if digest not in named:
            remove_image(name)


def _wait_until_kubelet_sees(name: str, image: Identity) -> None:
    """Wait for the part of containerd that serves the kubelet.

    It learns of an import by an event and then adds a name made of the config's digest. A pod that
    comes before that fails with ErrImageNeverPull and is tried again only after many seconds.
    """
    deadline = time.monotonic() + 10
    while imported().get(image.config_digest) != image.digest:
        if time.monotonic() > deadline:
            raise EngineError(f"containerd imported {name} but does not offer it to the kubelet")
        time.sleep(0.05)  # noqa: TID251  # an outside program's event, on the real clock


def ctr(*arguments: str) -> str:
    """Run containerd's own client on our containerd and return what it printed.

    Raises:
        EngineError: It failed; with what it said.
    """
    command = ["ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", NAMESPACE, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_CTR_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"ctr {' '.join(arguments)} gave no answer: {error}") from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise EngineError(f"ctr {' '.join(arguments)} failed: {said}")
    return done.stdout
