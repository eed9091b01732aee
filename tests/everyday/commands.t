Everyday commands, as a user of Docker types them; $D is docklock or docker, $ROOTFS a tar of
busybox. Whatever differs between the two is in differences.t.

Images.

  $ $D import --change 'CMD ["sh"]' --message 'a busybox' "$ROOTFS" busybox:1
  sha256:[0-9a-f]{64} (re)
  $ $D images --format '{{.Repository}}:{{.Tag}}'
  busybox:1
  $ $D images -q --no-trunc
  sha256:[0-9a-f]{64} (re)
  $ $D tag busybox:1 box
  $ $D image inspect --format '{{.Os}} {{json .Config.Cmd}}' box
  linux ["sh"]
  $ $D history --format '{{.Comment}}' box
  a busybox
  $ $D save -o box.tar box
  $ $D rmi box
  Untagged: box:latest
  $ $D load -i box.tar
  Loaded image: box:latest
  $ $D image ls --filter reference=box --format '{{.Tag}}'
  latest

Containers that run once.

  $ $D run --rm busybox:1 echo hello
  hello
  $ $D run --rm -w /tmp busybox:1 pwd
  /tmp
  $ $D run --rm -u 1000:1001 busybox:1 sh -c 'id -u; id -g'
  1000
  1001
  $ $D run --rm --hostname web busybox:1 hostname
  web
  $ $D run --rm --entrypoint echo busybox:1 instead
  instead
  $ printf 'B=2\n# no\nC=a b\n' > env.list
  $ $D run --rm -e A=1 --env-file env.list busybox:1 sh -c 'echo $A $B $C'
  1 2 a b
  $ mkdir data && echo kept > data/file
  $ $D run --rm -v "$PWD/data:/data:ro" busybox:1 cat /data/file
  kept
  $ $D run --rm --mount "type=bind,source=$PWD/data,target=/m" busybox:1 sh -c 'echo new > /m/new'
  $ cat data/new
  new
  $ $D run --rm --tmpfs /scratch busybox:1 sh -c 'grep -c " /scratch tmpfs " /proc/mounts'
  1
  $ $D run --rm --read-only busybox:1 touch /file
  touch: /file: Read-only file system
  [1]
  $ echo piped | $D run --rm -i busybox:1 cat
  piped
  $ $D run --rm busybox:1 sh -c 'exit 7'
  [7]
  $ $D run --rm busybox:1 nothing 2> said
  [127]
  $ $D run --rm busybox:1 /etc 2> said
  [126]
  $ $D run --rm busybox:1 sh -c 'sh -c "kill -9 \$\$"; exit $?'
  Killed
  [137]
  $ $D run --nonsense busybox:1 2> said
  [125]
  $ $D run --rm --network none busybox:1 sh -c 'ls /sys/class/net'
  lo
  $ $D run --rm --cap-drop ALL busybox:1 sh -c 'chown 1 /tmp'
  chown: /tmp: Operation not permitted
  [1]
  $ $D run --rm --ulimit nofile=64:64 busybox:1 sh -c 'ulimit -n'
  64
  $ $D run --rm --shm-size 8m busybox:1 df -k /dev/shm | awk 'NR == 2 {print $2}'
  8192
  $ $D run --rm --sysctl kernel.msgmax=4096 busybox:1 cat /proc/sys/kernel/msgmax
  4096
  $ $D run --rm --security-opt no-new-privileges busybox:1 grep NoNewPrivs /proc/self/status
  NoNewPrivs:\t1 (esc)
  $ $D run --rm --init busybox:1 sh -c 'test $$ -ne 1 && echo under init'
  under init

Containers that go on.

  $ $D run -d --name web --label tier=front --memory 64m --memory-swap 64m --cidfile cid \
  >   busybox:1 sh -c 'trap "exit 0" TERM; echo started; while :; do sleep 0.1; done'
  [0-9a-f]{64} (re)
  $ test "$(cat cid)" = "$($D inspect --format '{{.Id}}' web)"
  $ $D ps --format '{{.Names}} {{.Image}} {{.Label "tier"}}'
  web busybox:1 front
  $ $D ps -q --filter label=tier=back
  $ $D inspect --format '{{.State.Status}} {{.HostConfig.Memory}}' web
  running 67108864
  $ until $D logs web | grep started; do sleep 0.1; done
  started
  $ $D logs --tail 1 --timestamps web
  20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z started (re)
  $ $D exec web echo inside
  inside
  $ $D exec -u 1000 -w /tmp -e X=y web sh -c 'id -u; pwd; echo $X'
  1000
  /tmp
  y
  $ $D exec web sh -c 'exit 3'
  [3]
  $ $D exec -d web touch /tmp/begun
  $ echo copied > file && $D cp file web:/tmp/file && $D exec web cat /tmp/file
  copied
  $ $D cp web:/tmp/file - | tar -t
  file
  $ until $D exec web test -e /tmp/begun; do sleep 0.1; done; $D diff web | sort
  A /tmp/begun
  A /tmp/file
  C /tmp
  $ $D top web -o pid,comm | head -1
  PID * (glob)
  $ $D stats --no-stream --format '{{.Name}}' web
  web
  $ $D pause web
  web
  $ $D inspect --format '{{.State.Status}} {{.State.Paused}}' web
  paused true
  $ $D unpause web
  web
  $ $D rename web site
  $ $D update --cpus 1 site
  site
  $ $D update --restart on-failure:3 site
  site
  $ $D inspect --format '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NanoCpus}}' site
  on-failure 1000000000
  $ $D rm site 2> said
  [1]
  $ $D restart -t 5 site
  site
  $ $D stop -t 5 site
  site
  $ $D wait site
  0
  $ $D ps -a --filter status=exited --format '{{.Names}}: {{.Status}}'
  site: Exited (0) * ago (glob)
  $ $D start site
  site
  $ $D kill --signal KILL site
  site
  $ $D wait site
  137
  $ $D rm -f site
  site
  $ $D rm -f site 2> said

Containers in steps, and what is left of them.

  $ $D create --name step busybox:1 sh -c 'echo made > /made; echo ran'
  [0-9a-f]{64} (re)
  $ $D start -a step
  ran
  $ $D inspect --format '{{.State.ExitCode}} {{.Path}} {{len .Args}}' step
  0 sh 2
  $ $D export step | tar -xO made
  made
  $ $D container prune -f | head -1
  Deleted Containers:
  $ $D ps -aq
  $ $D inspect step 2> said
  []
  [1]
  $ $D system df --format '{{.Type}} {{.TotalCount}}' | head -2
  Images 1
  Containers 0
  $ $D rmi box busybox:1 | grep -c Untagged
  2
  $ $D images -q

The host.

  $ $D info --format '{{.OSType}} {{.Driver}} {{.Containers}} {{.ContainersRunning}}'
  linux overlay2 0 0
  $ test "$($D info --format '{{.NCPU}}')" = "$(nproc)"
  $ $D version --format '{{.Server.Os}}/{{.Server.Arch}}'
  linux/a..64 (re)
