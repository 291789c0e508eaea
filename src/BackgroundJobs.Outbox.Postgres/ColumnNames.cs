using System.Diagnostics.CodeAnalysis;
using Dapper;

namespace BackgroundJobs.Outbox.Postgres;

// Maps paused_at to PausedAt for our own records only: Dapper's switch for it is the whole process's, and not ours to set.
internal static class ColumnNames
{
    public static void Map<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicProperties)] TRow>()
    {
        var properties = typeof(TRow).GetProperties();
        SqlMapper.SetTypeMap(typeof(TRow), new CustomPropertyTypeMap(
            typeof(TRow),
            (_, column) => Array.Find(
                properties,
                property => property.Name.Equals(column.Replace("_", "", StringComparison.Ordinal), StringComparison.OrdinalIgnoreCase))!));
    }
}
