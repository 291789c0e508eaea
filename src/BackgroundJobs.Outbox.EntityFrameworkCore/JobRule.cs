using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// "When an entity of this type is inserted, updated or deleted, enqueue that job": made by EnqueuesOnInsert and its kin.
internal sealed record JobRule(EntityState On, IReadOnlyList<string> Properties, Func<DbContext, object, LateJob> Enqueue)
{
    public const string Annotation = "Outbox:Rules";

    public bool Applies(EntityEntry entry) =>
        entry.State == On && (Properties.Count == 0 || Properties.Any(each => entry.Property(each).IsModified));
}
