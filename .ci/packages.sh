#!/bin/bash
# packages.sh venv|test|bench|deb: the Debian packages that this needs. Root gets the missing ones
# installed; anybody else is told which they are.
set -euo pipefail

needed() { # needed PACKAGE FILE…: the package, unless one of the files is there
    local package=$1 file
    shift
    for file; do [ -e "$file" ] && return; done
    missing+=("$package")
}

deb() { # What `make deb` builds with.
    needed dpkg-dev /usr/bin/dpkg-buildpackage
    needed build-essential /usr/share/doc/build-essential
    needed debhelper /usr/bin/dh
    needed bash-completion /usr/bin/dh_bash-completion
    needed dh-virtualenv /usr/bin/dh_virtualenv
    needed python3 /usr/bin/python3
    needed python3-venv /usr/share/doc/python3-venv
    # For the one dependency that comes as sources (python-qpid-proton).
    needed python3-dev /usr/share/doc/python3-dev
    needed libssl-dev /usr/include/openssl/ssl.h
    needed lintian /usr/bin/lintian
}

missing=()
shopt -s nullglob
case ${1:-} in
venv)
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || missing+=(python3)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    # python-qpid-proton is compiled.
    needed gcc /usr/bin/cc
    needed libc6-dev /usr/include/stdio.h
    header='import pathlib, sysconfig; print(pathlib.Path(sysconfig.get_path("include"), "Python.h"))'
    needed python3-dev "$("$python" -c "$header" 2>/dev/null || echo none)"
    ;;
test)
    needed postgresql /usr/lib/postgresql/*/bin/initdb
    needed mariadb-server /usr/sbin/mariadbd
    needed tinyproxy-bin /usr/bin/tinyproxy
    needed unixodbc /usr/bin/odbcinst
    needed odbc-postgresql /usr/lib/*/odbc/psqlodbcw.so
    needed odbc-mariadb /usr/lib/*/odbc/libmaodbc.so
    needed libsqliteodbc /usr/lib/*/odbc/libsqlite3odbc.so
    needed tdsodbc /usr/lib/*/odbc/libtdsodbc.so
    needed default-jre-headless /usr/bin/java
    needed libpostgresql-jdbc-java /usr/share/java/postgresql.jar
    needed libmariadb-java /usr/share/java/mariadb-java-client.jar
    needed libh2-java /usr/share/java/h2.jar
    needed activemq /usr/share/activemq/bin/activemq.jar
    needed libactivemq-java /usr/share/java/activemq-client.jar
    needed rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
    needed slapd /usr/sbin/slapd
    needed samba /usr/sbin/samba
    needed samba-ad-provision /usr/share/samba/setup/provision.ldif
    needed samba-dsdb-modules /usr/lib/*/samba/ldb/samba_dsdb.so
    needed samba-vfs-modules /usr/lib/*/samba/vfs/acl_xattr.so
    needed python3-samba /usr/lib/python3/dist-packages/samba/netcmd/domain.py
    needed iproute2 /usr/sbin/ip /usr/bin/ip /sbin/ip /bin/ip
    needed curl /usr/bin/curl
    needed jq /usr/bin/jq
    needed sqlite3 /usr/bin/sqlite3
    needed openssl /usr/bin/openssl
    needed prometheus /usr/bin/promtool
    # The packages, and a Debian to install them in.
    deb
    needed mmdebstrap /usr/bin/mmdebstrap
    needed systemd-container /usr/bin/systemd-nspawn
    ;;
deb)
    deb
    ;;
bench)
    needed postgresql /usr/lib/postgresql/*/bin/initdb
    needed mariadb-server /usr/sbin/mariadbd
    needed default-jre-headless /usr/bin/java
    needed activemq /usr/share/activemq/bin/activemq.jar
    needed libactivemq-java /usr/share/java/activemq-client.jar
    needed nginx /usr/sbin/nginx
    needed openssh-server /usr/sbin/sshd
    needed openssh-client /usr/bin/ssh
    needed wrk /usr/bin/wrk
    ;;
*)
    echo "packages.sh venv|test|bench|deb" >&2
    exit 2
    ;;
esac
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "missing: ${missing[*]}" >&2
    echo "install with: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "installing: ${missing[*]}"
log=$(mktemp)
# The servers are for throw-away instances of our own: Debian's must not start, sshd least of all.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
install || { apt-get update >>"$log" 2>&1 && install; } || {
    tail -20 "$log" >&2
    echo "apt-get could not install: ${missing[*]} (full log: $log)" >&2
    exit 1
}
rm -f "$log"
if [ -d /run/systemd/system ]; then
    for package in "${missing[@]}"; do
        case $package in
        nginx) systemctl disable --quiet nginx.service ;;
        openssh-server) systemctl disable --quiet ssh.service ;;
        postgresql) systemctl disable --quiet postgresql.service ;;
        mariadb-server) systemctl disable --quiet mariadb.service ;;
        activemq) systemctl disable --quiet activemq.service ;;
        rabbitmq-server) systemctl disable --quiet rabbitmq-server.service epmd.socket ;;
        slapd) systemctl disable --quiet slapd.service ;;
        samba) systemctl disable --quiet smbd.service nmbd.service samba-ad-dc.service ;;
        prometheus) systemctl disable --quiet prometheus.service ;;
        esac
    done
fi
