"""The runtime registry: every language and version that integr8s knows how to run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

MIB = 1024 * 1024

_BASE_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - a path inside the sandbox, where /tmp is private
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its versions, and what a launcher needs to run a script in it."""

    name: str
    versions: tuple[str, ...]
    default_version: str
    image: str
    """Image reference with `{version}` in it; used on Kubernetes."""
    command: tuple[str, ...]
    """What stands before the path of the script."""
    extension: str
    environment: Mapping[str, str] = field(default_factory=dict)
    tmp_bytes: int = 10 * MIB
    least_memory_bytes: int = 0
    default_timeout: timedelta = timedelta(seconds=30)

    @property
    def filename(self) -> str:
        """Return the name under which the script lies in the scripts folder."""
        return f"main.{self.extension}"

    def environment_of_run(self) -> dict[str, str]:
        """Return the whole environment of a script, but for the id of its execution."""
        return {**_BASE_ENVIRONMENT, "OUTPUT_PATH": "/output", **self.environment}


LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        Language(
            name="python",
            versions=("3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"),
            default_version="3.11",
            image="python:{version}-slim",
            command=("python",),
            extension="py",
            environment={
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUTF8": "1",
            },
        ),
        Language(
            name="node",
            versions=("18", "20", "22", "24"),
            default_version="20",
            image="node:{version}-alpine",
            command=("node",),
            extension="js",
        ),
        Language(
            name="ruby",
            versions=("3.1", "3.2", "3.3", "3.4"),
            default_version="3.3",
            image="ruby:{version}-alpine",
            command=("ruby",),
            extension="rb",
        ),
        Language(
            name="bash",
            versions=("5.1", "5.2", "5.3"),
            default_version="5.2",
            image="bash:{version}",
            command=("bash",),
            extension="sh",
        ),
        Language(
            name="go",
            versions=("1.20", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26"),
            default_version="1.22",
            image="golang:{version}-alpine",
            command=("go", "run"),
            extension="go",
            environment={
                "GOCACHE": "/tmp/go-build",  # noqa: S108 - private to the sandbox
                "GOTMPDIR": "/tmp",  # noqa: S108
                "GOFLAGS": "-buildvcs=false",
            },
            tmp_bytes=256 * MIB,
            least_memory_bytes=768 * MIB,
            default_timeout=timedelta(seconds=60),
        ),
    )
}


class Offer:
    """The part of the registry that can really run here: language -> versions."""

    def __init__(
        self,
        versions: Mapping[str, tuple[str, ...]] | None = None,
        *,
        images: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Offer the given versions of known languages; without an argument, all of them.

        `images` (language -> version -> reference) stand for the registry's own.
        """
        found = versions if versions is not None else {n: x.versions for n, x in LANGUAGES.items()}
        self._images = images or {}
        self._versions = {
            name: tuple(v for v in language.versions if v in found[name])
            for name, language in LANGUAGES.items()
            if name in found and any(v in language.versions for v in found[name])
        }

    def __iter__(self) -> Iterator[Language]:
        """Yield the languages that are offered."""
        return (LANGUAGES[name] for name in self._versions)

    def __contains__(self, language: str) -> bool:
        """Say whether a language is offered in any version."""
        return language in self._versions

    def versions(self, language: str) -> tuple[str, ...]:
        """Return the offered versions, oldest first; none for an unknown language."""
        return self._versions.get(language, ())

    def image(self, language: str, version: str) -> str:
        """Return the reference of the image that an offered version runs in."""
        usual = LANGUAGES[language].image.format(version=version)
        return self._images.get(language, {}).get(version, usual)

    def default_version(self, language: str) -> str:
        """Return the registry's default where it is offered, else the newest that is."""
        versions = self._versions[language]
        default = LANGUAGES[language].default_version
        return default if default in versions else versions[-1]
