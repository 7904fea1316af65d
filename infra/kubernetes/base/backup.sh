# Dumps MLflow's database into $BACKUPS, reads the whole dump back, and removes dumps older than $DAYS days, never the newest.
# What a backup that was killed had written goes first, or the volume fills up; a job lives for an hour, and is let alone.
set -eu
umask 077
target="$BACKUPS/mlflow-$(date -u +%Y%m%dT%H%M%SZ).dump"
find "$BACKUPS" -name 'mlflow-*.dump.part' -mmin +120 -delete
trap 'rm -f "$target.part"' EXIT
pg_dump --format=custom --no-password --file="$target.part"
pg_restore --list "$target.part" | grep -q 'TABLE DATA .* experiments ' || { echo "$target: no dump of MLflow" >&2; exit 1; }
sync "$target.part"
# The list above is the archive's first pages alone; writing it as SQL reads all of it, and unpacks every row.
pg_restore --file=/dev/null "$target.part" || { echo "$target: the dump cannot be read to its end" >&2; exit 1; }
mv "$target.part" "$target"
find "$BACKUPS" -name 'mlflow-*.dump' ! -path "$target" -mtime "+$DAYS" -delete
echo "$target: $(wc -c <"$target") bytes"
