# Dumps MLflow's database into $BACKUPS, reads the dump back, and removes dumps older than $DAYS days, never the newest.
set -eu
umask 077
target="$BACKUPS/mlflow-$(date -u +%Y%m%dT%H%M%SZ).dump"
trap 'rm -f "$target.part"' EXIT
pg_dump --format=custom --no-password --file="$target.part"
pg_restore --list "$target.part" | grep -q 'TABLE DATA .* experiments ' || { echo "$target: no dump of MLflow" >&2; exit 1; }
sync "$target.part"
mv "$target.part" "$target"
find "$BACKUPS" -name 'mlflow-*.dump' ! -path "$target" -mtime "+$DAYS" -delete
echo "$target: $(wc -c <"$target") bytes"
