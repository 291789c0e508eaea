using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.TestWorker;

/// <summary>An application that is killed between SaveChanges and Commit: it says "saved", and then waits for that.</summary>
public static class HalfSaved
{
    /// <summary>Saves an entity and its job in a transaction that is never committed.</summary>
    /// <param name="connectionString">A database with our schema and a table things.</param>
    /// <returns>Never.</returns>
    public static async Task RunAsync(string connectionString)
    {
        await using var db = new ThingContext(new DbContextOptionsBuilder<ThingContext>().UseNpgsql(connectionString).UseOutbox().Options);
        await using var transaction = await db.Database.BeginTransactionAsync();
        var thing = new Thing();
        db.Add(thing);
        db.Enqueue(() => new SlowJob((int)thing.Id, 0));
        await db.SaveChangesAsync();
        Console.WriteLine("saved");
        await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System);
    }

    private sealed class Thing
    {
        public long Id { get; set; }
    }

    private sealed class ThingContext(DbContextOptions<ThingContext> options) : DbContext(options)
    {
        protected override void OnModelCreating(ModelBuilder modelBuilder) =>
            modelBuilder.Entity<Thing>().ToTable("things").Property(each => each.Id).HasColumnName("id");
    }
}
