using Microsoft.EntityFrameworkCore;

namespace ServerBoot;

internal sealed class Server
{
    // Made by the database: nobody knows it before the INSERT.
    public long Id { get; private set; }

    public required string Name { get; init; }

    public required string Region { get; init; }

    public required string Size { get; init; }

    public DateTime? BootedAt { get; set; }
}

internal sealed class Boot
{
    public long Id { get; private set; }

    public required long ServerId { get; init; }

    public required Guid JobId { get; init; }

    public required int Attempt { get; init; }

    public required int WorkerPid { get; init; }
}

internal sealed class BootDb(DbContextOptions<BootDb> options) : DbContext(options)
{
    public DbSet<Server> Servers => Set<Server>();

    public DbSet<Boot> Boots => Set<Boot>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Server>(server =>
        {
            server.ToTable("servers");
            server.Property(each => each.Id).HasColumnName("id").UseIdentityByDefaultColumn();
            server.Property(each => each.Name).HasColumnName("name");
            server.Property(each => each.Region).HasColumnName("region");
            server.Property(each => each.Size).HasColumnName("size");
            server.Property(each => each.BootedAt).HasColumnName("booted_at");
        });
        modelBuilder.Entity<Boot>(boot =>
        {
            boot.ToTable("boots");
            boot.Property(each => each.Id).HasColumnName("id").UseIdentityAlwaysColumn();
            boot.Property(each => each.ServerId).HasColumnName("server_id");
            boot.Property(each => each.JobId).HasColumnName("job_id");
            boot.Property(each => each.Attempt).HasColumnName("attempt");
            boot.Property(each => each.WorkerPid).HasColumnName("worker_pid");
        });
    }
}
