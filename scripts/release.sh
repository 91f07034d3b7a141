#!/bin/sh
# Publishes the version in src/opentrail/core/version.py: looks for vulnerabilities of its packages, compares its speed
# with the last release's, builds it, tags the commit, pushes the tag to `origin`, and makes the release of the tag with
# GitHub's command line, `gh`. Nothing is published unless no vulnerability is known, the required ratios are met and
# all files were built.
set -eu
cd "$(dirname "$0")/.."

refuse() {
    echo "release.sh: $*" >&2
    exit 2
}

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/opentrail/core/version.py)
tag=v$version
[ -z "$(git status --porcelain)" ] || refuse "there are changes that are not committed"
! git rev-parse -q --verify "refs/tags/$tag" >/dev/null ||
    refuse "$tag exists: raise the version in src/opentrail/core/version.py"
grep -q "^## \[$version\] - " CHANGELOG.md ||
    refuse "CHANGELOG.md has no section '## [$version] - DATE': rename [Unreleased]"
git remote get-url origin >/dev/null 2>&1 || refuse "git has no remote 'origin' to publish to"
command -v gh >/dev/null || refuse "gh is missing, GitHub's command line"

make --no-print-directory audit || refuse "a package has a known vulnerability, or could not be audited: see above"
# Without tags, the last release is the change of the version before this one.
last=$(git describe --tags --abbrev=0 2>/dev/null ||
    git log -1 --skip=1 --format=%H -- src/opentrail/core/version.py)
make --no-print-directory bench-trees BASE="$last" || refuse "slower than $last: see the ratios above"
make --no-print-directory dist
git tag -a "$tag" -m "opentrail $version"
git push origin "$tag"
gh release create "$tag" dist/* --verify-tag --title "opentrail $version" --notes-file dist/NOTES.txt
