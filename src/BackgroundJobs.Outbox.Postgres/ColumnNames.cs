using Dapper;

namespace BackgroundJobs.Outbox.Postgres;

// Maps paused_at to PausedAt for our own records only: Dapper's switch for it is the whole process's, and not ours to set.
internal static class ColumnNames
{
    public static void Map<TRow>() => SqlMapper.SetTypeMap(typeof(TRow), new CustomPropertyTypeMap(
        typeof(TRow),
        static (type, column) => Array.Find(
            type.GetProperties(),
            property => property.Name.Equals(column.Replace("_", "", StringComparison.Ordinal), StringComparison.OrdinalIgnoreCase))!));
}
