using System.Reflection;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// Evaluates late-bound jobs, before the save. Missing keys are taken from their sequences first, for all entities in one round trip, and set
// on the entities: what follows is an ordinary insert, which every transaction and every retry treats alike.
internal sealed class LateBinding
{
    private readonly DbContext db;
    private readonly IRelationalConnection connection;
    private readonly IReadOnlyList<LateJob> jobs;
    private readonly List<LateValue> values;

    private LateBinding(DbContext db, IReadOnlyList<LateJob> jobs)
    {
        this.db = db;

        // Not db.Database, whose services nobody else needs in a save.
        connection = db.GetService<IRelationalConnection>();
        this.jobs = jobs;
        values = Find();
    }

    // Null: nothing to do.
    public static LateBinding? Of(DbContext db, PendingJobs pending)
    {
        var jobs = pending.Late;
        if (jobs.Count == 0)
            return null;
        if (db.ChangeTracker.AutoDetectChangesEnabled)
            db.ChangeTracker.DetectChanges();
        return new LateBinding(db, [.. jobs]);
    }

    public void Run()
    {
        if (values.Count > 0)
        {
            if (connection.CurrentTransaction is null)
                Strategy().Execute(Fetch);
            else
                Fetch();
        }

        Evaluate();
    }

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        if (values.Count > 0)
        {
            // In a transaction the caller's own strategy, if any, is already at work around us.
            if (connection.CurrentTransaction is null)
                await Strategy().ExecuteAsync(FetchAsync, cancellationToken).ConfigureAwait(false);
            else
                await FetchAsync(cancellationToken).ConfigureAwait(false);
        }

        Evaluate();
    }

    private void Evaluate()
    {
        foreach (var job in jobs.Where(each => each.IsPending))
            job.Evaluate();
    }

    private void Fetch()
    {
        connection.Open();
        try
        {
            using var batch = Batch();
            using var reader = batch.ExecuteReader();
            foreach (var value in Ordered())
            {
                while (!reader.Read())
                    reader.NextResult();
                value.Take(reader.GetValue(0));
            }
        }
        finally
        {
            connection.Close();
        }
    }

    private async Task FetchAsync(CancellationToken cancellationToken)
    {
        await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await using var batch = Batch();
            await using var reader = await batch.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
            foreach (var value in Ordered())
            {
                while (!await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
                    await reader.NextResultAsync(cancellationToken).ConfigureAwait(false);
                value.Take(reader.GetValue(0));
            }
        }
        finally
        {
            await connection.CloseAsync().ConfigureAwait(false);
        }
    }

    private IExecutionStrategy Strategy() => db.GetService<IExecutionStrategyFactory>().Create();

    private IEnumerable<IGrouping<(string?, string?, string?), LateValue>> Groups() =>
        values.GroupBy(each => (each.Identity?.Table, each.Identity?.Column, each.Expression));

    private IEnumerable<LateValue> Ordered() => Groups().SelectMany(each => each);

    private NpgsqlBatch Batch()
    {
        var batch = new NpgsqlBatch((NpgsqlConnection)connection.DbConnection)
        {
            Timeout = connection.CommandTimeout ?? 30,
        };
        foreach (var group in Groups())
        {
            var (table, column, expression) = group.Key;
            var count = new NpgsqlParameter<int> { TypedValue = group.Count() };
            if (expression is not null)
            {
                // The model's text, as EF itself would put it into DDL; nothing from outside.
                var sql = Sql("next_default_values").Text.Replace("/*default*/ now()", $"({expression})", StringComparison.Ordinal);
                batch.BatchCommands.Add(new NpgsqlBatchCommand(sql) { Parameters = { count } });
            }
            else
            {
                batch.BatchCommands.Add(new NpgsqlBatchCommand(Sql("next_identity_values").Text)
                {
                    Parameters = { new NpgsqlParameter<string?> { TypedValue = table }, new NpgsqlParameter<string?> { TypedValue = column }, count },
                });
            }
        }

        return batch;
    }

    private List<LateValue> Find()
    {
        Dictionary<(object Entity, IProperty Property), LateValue> found = [];
        Dictionary<(IProperty, object), EntityEntry>? principals = null;
        foreach (var job in jobs)
        {
            var reads = job.Reads();
            if (reads.Any(read => read.Entry.State == EntityState.Detached))
            {
                job.Drop();
                continue;
            }

            foreach (var (entry, property) in reads.SelectMany(read => Properties(read.Entry, read.Member)))
            {
                var current = entry.Property(property.Name);
                var (owner, source) = (entry, property);
                if (current.IsTemporary && property.GetContainingForeignKeys().FirstOrDefault() is { } && current.CurrentValue is { } temporary)
                {
                    principals ??= TemporaryKeys();
                    (owner, source) = Principal(property, temporary, principals) ?? (entry, property);
                }

                if (found.ContainsKey((owner.Entity, source)))
                    continue;
                if (owner.Property(source.Name).IsTemporary || IsUnset(owner, source))
                    found[(owner.Entity, source)] = LateValue.For(owner, source);
                else if (IsRemade(owner, source))
                    throw LateValue.Unknowable(owner, source);
            }
        }

        return [.. found.Values.Where(each => each.Identity is not null || each.Expression is not null)];
    }

    // A member that is not mapped may compute anything from the rest, so it counts as a read of all.
    private static IEnumerable<(EntityEntry, IProperty)> Properties(EntityEntry entry, MemberInfo? member)
    {
        if (member is not null && entry.Metadata.FindProperty(member.Name) is { } property)
            return [(entry, property)];
        if (member is not null && entry.Metadata.FindComplexProperty(member.Name) is not null)
            return [];
        return entry.Metadata.GetProperties().Select(each => (entry, each));
    }

    private static bool IsUnset(EntityEntry entry, IProperty property) =>
        entry.State == EntityState.Added
        && property.ValueGenerated == ValueGenerated.OnAdd
        && property.GetContainingForeignKeys().All(each => each.PrincipalKey.Properties[each.Properties.ToList().IndexOf(property)] == property)
        && Equals(entry.Property(property.Name).CurrentValue, property.Sentinel);

    // Made by the database with this very save: computed columns, row versions.
    private static bool IsRemade(EntityEntry entry, IProperty property) =>
        (entry.State == EntityState.Added && property.ValueGenerated == ValueGenerated.OnAddOrUpdate)
        || (entry.State == EntityState.Modified && property.ValueGenerated is ValueGenerated.OnAddOrUpdate or ValueGenerated.OnUpdate);

    private Dictionary<(IProperty, object), EntityEntry> TemporaryKeys()
    {
        Dictionary<(IProperty, object), EntityEntry> keys = [];
        foreach (var entry in db.ChangeTracker.Entries().Where(each => each.State == EntityState.Added))
        {
            foreach (var property in entry.Metadata.GetKeys().SelectMany(key => key.Properties).Distinct())
            {
                if (entry.Property(property.Name) is { IsTemporary: true, CurrentValue: { } value })
                    keys[(property, value)] = entry;
            }
        }

        return keys;
    }

    // A foreign key that holds a temporary value: where that value was made, over as many parents as it takes.
    private static (EntityEntry, IProperty)? Principal(
        IProperty property, object temporary, Dictionary<(IProperty, object), EntityEntry> keys)
    {
        foreach (var foreignKey in property.GetContainingForeignKeys())
        {
            var at = foreignKey.Properties.ToList().IndexOf(property);
            var principal = foreignKey.PrincipalKey.Properties[at];

            // The table of a derived type is bound to that of its base by a foreign key from the key to itself (TPT): no parent there.
            if (principal == property || !keys.TryGetValue((principal, temporary), out var entry))
                continue;
            return principal.GetContainingForeignKeys().Any() ? Principal(principal, temporary, keys) ?? (entry, principal) : (entry, principal);
        }

        return null;
    }

    private static SqlFile Sql(string name) => SqlFile.Read(typeof(LateBinding).Assembly, $"sql/{name}.sql", JobDefaults.Schema);
}
