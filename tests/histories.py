"""Real event logs and the domain of one of them: the packages of Scoop (its SOURCE.md says how)."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from store import Aggregate, Domain, Hindsight
from store.folding import merge_patch
from store.transfer import import_events


class PackageAdded(Struct, frozen=True):
    manifest: Any
    path: str


class PackageReadded(PackageAdded, frozen=True):
    pass


class PackageVersionReleased(Struct, frozen=True):
    patch: Any


class ManifestEdited(PackageVersionReleased, frozen=True):
    pass


class PackageRemoved(Struct, frozen=True):
    path: str


class ManifestMoved(Struct, frozen=True):
    to: str


class ManifestReformatted(Struct, frozen=True):
    pass


class ManifestBroken(Struct, frozen=True):
    pass


class Package(Struct, frozen=True):
    manifest: Any = {}
    path: str = ""
    removed: bool = False
    broken: bool = False


def change_package(package: Package, event: Any) -> Package:
    match event:
        case PackageAdded(manifest, path):
            return Package(manifest, path)
        case PackageVersionReleased(patch):
            return replace(package, manifest=merge_patch(package.manifest, patch), broken=False)
        case PackageRemoved(path):
            return replace(package, path=path, removed=True)
        case ManifestMoved(to):
            return replace(package, path=to)
        case ManifestBroken():
            return replace(package, broken=True)
    return package


PACKAGES = Domain(
    "scoop",
    aggregates=[
        Aggregate(
            "package",
            initial=Package(),
            apply=change_package,
            events=[
                *(PackageAdded, PackageReadded, PackageRemoved, PackageVersionReleased),
                *(ManifestEdited, ManifestMoved, ManifestReformatted, ManifestBroken),
            ],
        )
    ],
)


def imported(url: str, folder: Path, domain: Domain) -> Hindsight:
    store = Hindsight(url, domain=domain)
    with (folder / "events.ndjson.gz").open("rb") as stream:
        import_events(store.log, stream)
    return store


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as stream:
        return [msgspec.json.decode(line) for line in stream]
