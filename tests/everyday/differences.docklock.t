What differs between docklock and Docker, each told in the README; the rest is in commands.t.

  $ $D import "$ROOTFS" busybox:1 > id

1. A command that is not there ends with 2

  $ $D frobnicate 2> said
  [2]

2. What went wrong begins with `docklock: `

  $ $D logs nosuch
  docklock: No such container: nosuch
  [1]

3. `create`, `start` and `exec` that docklock could not do end with 125

  $ $D exec nosuch true 2> said
  [125]
  $ $D start nosuch 2> said
  [125]

4. `-v` of a host path that is not there is refused

  $ $D run --rm -v "$PWD/missing:/x" busybox:1 true 2> said
  [125]

5. A name may be of one character

  $ $D create --name a busybox:1 true > said 2>&1
  $ $D rm -f a > said 2>&1

6. `no_new_privs` is set

  $ $D run --rm busybox:1 grep NoNewPrivs /proc/self/status
  NoNewPrivs:\t1 (esc)

7. `--pid host` is refused

  $ $D run --rm --pid host busybox:1 true 2> said
  [125]

8. Without a network there is no resolv.conf

  $ $D run --rm --network none busybox:1 test -e /etc/resolv.conf
  [1]

9. `version` says docklock's own

  $ $D version | head -1
  docklock * (glob)

10. `system df` counts evidence, and no volumes or builds

  $ $D system df --format '{{.Type}}'
  Images
  Containers
  Evidence

11. There is no `build`, `commit`, `search`, `volume`, `network`, `port`, `swarm`

  $ $D network ls > said 2>&1
  [2]

  $ $D rmi busybox:1 > said
