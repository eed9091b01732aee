# Shell functions shared by ./demo, ./test and .ci/run: Debian packages and the checkout's .venv.
# Source it from the checkout's top; nothing runs before a function is called.
# All is quiet when there is nothing to do, and the second run costs milliseconds.

# say TEXT: one line of progress on standard error.
say() {
    printf '%s\n' "$*" >&2
}

# need_packages NAME...: install the Debian packages that are missing (root only).
need_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "missing Debian packages:$missing (install them as root: apt-get install$missing)"
        return 1
    fi
    say "installing Debian packages:$missing"
    # The package lists may be absent or old: update only if the first try fails.
    # shellcheck disable=SC2086
    apt_install $missing 2>/dev/null || { apt-get update -qq >&2 && apt_install $missing; }
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >/dev/null </dev/null
}

# get_python: the interpreter the environment is made with: $PYTHON, else Debian's, else PATH's.
get_python() {
    for candidate in "${PYTHON:-}" /usr/bin/python3 python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    say "docklock needs Python 3.11 or newer (apt-get install python3)"
    return 1
}

# make_venv LOCK: .venv with exactly what LOCK names, by hash, and this checkout itself.
# pip's own configuration decides where files come from; only their hashes are fixed here.
make_venv() {
    lock=$1
    python=$(get_python) || return 1
    "$python" -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv || return 1
    # The full lock holds the core lock, so a full environment serves both.
    for have in "$lock" requirements.lock; do
        stamp=$({ cat "$have" pyproject.toml .ci/setup.sh; "$python" -VV; pwd; } | sha256sum)
        [ "$(cat ".venv/stamp-$have" 2>/dev/null)" != "$stamp" ] || return 0
    done
    stamp=$({ cat "$lock" pyproject.toml .ci/setup.sh; "$python" -VV; pwd; } | sha256sum)
    say "making .venv from $lock"
    rm -rf .venv
    "$python" -m venv .venv || return 1
    venv_pip install -qq --require-hashes -r "$lock" || return 1
    # The new pip, now: its console scripts start faster than those of Debian's.
    venv_pip install -qq --no-deps --no-index --no-build-isolation -e . || return 1
    # setuptools came with the environment, not from the lock; its .pth file slows every start.
    venv_pip uninstall -qq -y setuptools || return 1
    env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m compileall -q \
        .venv/lib chainlite docklock enc tui >/dev/null 2>&1 || :
    printf '%s\n' "$stamp" >".venv/stamp-$lock"
}

venv_pip() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore \
        .venv/bin/python -m pip "$@"
}
