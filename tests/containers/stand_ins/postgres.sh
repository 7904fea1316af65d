# What the official image does on its first start: a cluster with one user, one database and a password, open to the network.
set -eu
: "${POSTGRES_PASSWORD:?}" "${POSTGRES_USER:?}" "${POSTGRES_DB:?}"
data=${PGDATA:-/var/lib/postgresql/data}
if [ "$(id -u)" = 0 ]; then
  as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
  install -d -o postgres -g postgres -m 700 "$data"
else
  as_postgres() { "$@"; }
  mkdir -p "$data" && chmod 700 "$data"
fi
if [ ! -s "$data/PG_VERSION" ]; then
  secret=$(mktemp) && printf %s "$POSTGRES_PASSWORD" >"$secret"
  [ "$(id -u)" != 0 ] || chown postgres "$secret"
  as_postgres initdb -D "$data" -U "$POSTGRES_USER" --auth-host=scram-sha-256 --auth-local=trust --pwfile="$secret"
  rm "$secret"
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  # On a socket alone until the database is there: whoever waits for it must not find half of it.
  as_postgres pg_ctl -D "$data" -w -o "-c listen_addresses= -c unix_socket_directories=/tmp" start
  as_postgres createdb -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
  as_postgres pg_ctl -D "$data" -w stop
fi
start="postgres"
[ "$(id -u)" != 0 ] || start="setpriv --reuid=postgres --regid=postgres --clear-groups postgres"
exec $start -D "$data" -c "listen_addresses=*" -c unix_socket_directories=/var/run/postgresql,/tmp
