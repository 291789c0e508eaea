using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// What a writer saves together with a job.
internal sealed class Entity
{
    public long Id { get; set; }

    public Guid Operation { get; set; }

    public Guid JobId { get; set; }
}

// What a handler saves together with the completion of its job.
internal sealed class Effect
{
    public long Id { get; set; }

    public Guid JobId { get; set; }

    public int Attempt { get; set; }
}

internal sealed class ChaosDb(DbContextOptions<ChaosDb> options) : DbContext(options)
{
    public DbSet<Entity> Entities => Set<Entity>();

    public DbSet<Effect> Effects => Set<Effect>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Entity>(entity =>
        {
            entity.ToTable("entities");
            entity.Property(each => each.Id).HasColumnName("id");
            entity.Property(each => each.Operation).HasColumnName("operation");
            entity.Property(each => each.JobId).HasColumnName("job_id");
        });
        modelBuilder.Entity<Effect>(effect =>
        {
            effect.ToTable("effects");
            effect.Property(each => each.Id).HasColumnName("id");
            effect.Property(each => each.JobId).HasColumnName("job_id");
            effect.Property(each => each.Attempt).HasColumnName("attempt");
        });
    }
}
