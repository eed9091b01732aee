# Shell functions shared by ./install and systemd/build-deb: what an installed docklock consists of.
# Source it from the checkout's top, after .ci/setup.sh.

TOP_INSTALLED=/usr/lib/docklock
# Every file outside of $TOP_INSTALLED but for the manual pages; `place_files` makes them,
# `./install --remove` takes them.
FILES_INSTALLED='usr/bin/docklock
usr/bin/docklock-runtime
usr/lib/systemd/system/docklock.service
usr/lib/systemd/system/docklock-mend.path
usr/lib/systemd/system/docklock-mend.service
usr/lib/systemd/system/docklock.socket
usr/lib/sysusers.d/docklock.conf
usr/lib/tmpfiles.d/docklock.conf
usr/share/bash-completion/completions/docklock
usr/share/fish/vendor_completions.d/docklock.fish
usr/share/zsh/vendor-completions/_docklock'
MAN_INSTALLED=usr/share/man/man1

# make_tree TARGET [VERSION]: the code that /usr/bin/docklock runs: the locked packages, by hash, docklock's
# wheel, all compiled. No virtual environment: the launcher reads no site, so it would be paid for
# and not used. `stamp` names what it holds: pip's own notes, which name a directory, are left out.
make_tree() {
    target=$1
    make_venv requirements-core.lock || return 1
    work=$(mktemp -d) || return 1
    fill_tree "$target" "$work" "${2-}" || { rm -rf "$work" "$target"; return 1; }
    rm -rf "$work"
}

fill_tree() {
    .venv/bin/python systemd/core_lock.py >"$2/core.lock" &&
        venv_pip wheel -qq --no-deps --no-index --no-build-isolation -w "$2" . &&
        install_into "$1" --require-hashes -r "$2/core.lock" &&
        install_into "$1" --no-index "$2"/docklock-*.whl &&
        rm -rf "$1/bin" "$1"/*.dist-info/RECORD "$1"/*.dist-info/direct_url.json &&
        install -m 755 systemd/trees "$1/trees" &&
        find "$1" -name __pycache__ -prune -o -type f -print0 | LC_ALL=C sort -z |
            xargs -0 sha256sum | sed "s|$1||; \$a version $3" | sha256sum | cut -c1-16 >"$2/stamp" &&
        install -m 644 "$2/stamp" "$1/stamp" &&
        env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m compileall -q -s "$1" \
            --invalidation-mode unchecked-hash "$1"
}

install_into() {
    into=$1
    shift
    venv_pip install -qq --no-deps --no-compile --upgrade --target "$into" "$@"
}

# place_files ROOT: all but the tree, below ROOT.
place_files() {
    for pair in docklock:main docklock-runtime:oci; do
        mkdir -p "$1/usr/bin"
        sed "s/@MODULE@/${pair#*:}/" systemd/launcher >"$1/usr/bin/${pair%:*}.new"
        chmod 755 "$1/usr/bin/${pair%:*}.new"
        mv -T "$1/usr/bin/${pair%:*}.new" "$1/usr/bin/${pair%:*}"
    done
    for unit in docklock.service docklock-mend.path docklock-mend.service docklock.socket; do
        install -D -m 644 "systemd/$unit" "$1/usr/lib/systemd/system/$unit"
    done
    for kind in sysusers tmpfiles; do
        install -D -m 644 "systemd/docklock.$kind" "$1/usr/lib/$kind.d/docklock.conf"
    done
    remove_pages "$1"
    call_placed "$1" man -o "$1/$MAN_INSTALLED"
    place_completion "$1" bash usr/share/bash-completion/completions/docklock
    place_completion "$1" fish usr/share/fish/vendor_completions.d/docklock.fish
    place_completion "$1" zsh usr/share/zsh/vendor-completions/_docklock
}

# place_completion ROOT SHELL FILE
place_completion() {
    mkdir -p "$1/${3%/*}"
    call_placed "$1" completion "$2" >"$1/$3.new"
    chmod 644 "$1/$3.new"
    mv -T "$1/$3.new" "$1/$3"
}

# call_placed ROOT WORD...: docklock of the tree below ROOT, which says what its commands are.
call_placed() {
    placed=$1$TOP_INSTALLED/package
    shift
    env PYTHONPATH="$placed" PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -P -m docklock.cli.main "$@"
}

# remove_pages ROOT: those of commands that are no more, too.
remove_pages() {
    rm -f "$1/$MAN_INSTALLED/docklock.1" "$1/$MAN_INSTALLED"/docklock-*.1
}
