using System.Globalization;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
using Microsoft.EntityFrameworkCore.Metadata;
using Npgsql.EntityFrameworkCore.PostgreSQL.Metadata;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A value that the database would make on insert, that a job wants to know before, and where it comes from.
internal sealed record LateValue(EntityEntry Entry, IProperty Property)
{
    // A sequence behind a column.
    public (string Table, string Column)? Identity { get; private init; }

    // The model's own default expression.
    public string? Expression { get; private init; }

    public static LateValue For(EntityEntry entry, IProperty property)
    {
        var value = new LateValue(entry, property);
        if (property.GetDefaultValueSql() is { Length: > 0 } sql)
            return value with { Expression = sql };
        if (property.TryGetDefaultValue(out var constant) && constant is not null)
        {
            value.Set(constant);
            return value;
        }

        if (property.GetValueGenerationStrategy() is NpgsqlValueGenerationStrategy.IdentityByDefaultColumn or NpgsqlValueGenerationStrategy.SerialColumn
            && Table(entry, property) is { } table)
            return value with { Identity = (Quoted(table), property.GetColumnName(table)!) };
        throw Unknowable(entry, property);
    }

    // From the database's type to the property's: long to int, to a strongly typed id.
    public void Take(object fromDatabase)
    {
        var converter = Property.GetTypeMapping().Converter;
        var type = converter?.ProviderClrType ?? Property.ClrType;
        type = Nullable.GetUnderlyingType(type) ?? type;
        var value = type.IsInstanceOfType(fromDatabase) ? fromDatabase : Convert.ChangeType(fromDatabase, type, CultureInfo.InvariantCulture);
        Set(converter is null ? value : converter.ConvertFromProvider(value)!);
    }

    public static OutboxException Unknowable(EntityEntry entry, IProperty property)
    {
        var why = property.GetComputedColumnSql() is not null ? "it is a computed column"
            : property.GetValueGenerationStrategy() == NpgsqlValueGenerationStrategy.IdentityAlwaysColumn ? "its column is GENERATED ALWAYS, so a value taken from the sequence before could not be inserted"
            : "the database makes it, and the model does not say how";
        return new OutboxException(
            $"A job reads {entry.Metadata.ShortName()}.{property.Name}, which cannot be known before the insert: {why}. Nothing was written. "
            + "Save the entity first and enqueue then, both in one transaction; or pass the key and read the value in the handler.");
    }

    private void Set(object value)
    {
        var property = Entry.Property(Property.Name);
        property.CurrentValue = value;
        property.IsTemporary = false;
    }

    // Of the type that declares the property: the root of a hierarchy has the sequence. Without a table of its own (TPC): the entity's.
    private static StoreObjectIdentifier? Table(EntityEntry entry, IProperty property) =>
        (property.DeclaringType is IEntityType declaring ? StoreObjectIdentifier.Create(declaring, StoreObjectType.Table) : null)
        ?? StoreObjectIdentifier.Create(entry.Metadata, StoreObjectType.Table);

    private static string Quoted(StoreObjectIdentifier table) =>
        table.Schema is null ? Quote(table.Name) : $"{Quote(table.Schema)}.{Quote(table.Name)}";

    private static string Quote(string identifier) => $"\"{identifier.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
