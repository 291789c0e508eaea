using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;

internal sealed class ShopContext(DbContextOptions options) : DbContext(options)
{
    public DbSet<Server> Servers => Set<Server>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Server>(server =>
        {
            server.OwnsOne(each => each.Address);
            server.HasIndex(each => each.Name).IsUnique();
            server.Property(each => each.Note).IsConcurrencyToken();
        });
        modelBuilder.Entity<Disk>();
        modelBuilder.Entity<Volume>().HasKey(each => new { each.ServerId, each.Number });
        modelBuilder.Entity<Snapshot>().HasKey(each => new { each.ServerId, each.Number, each.Day });
        modelBuilder.Entity<Snapshot>().HasOne(each => each.Volume).WithMany(each => each.Snapshots).HasForeignKey(each => new { each.ServerId, each.Number });
        modelBuilder.Entity<Partition>();
        modelBuilder.Entity<SerialRow>().Property(each => each.Id).UseSerialColumn();
        modelBuilder.HasSequence<long>("numbers").StartsAt(5000);
        modelBuilder.Entity<NextvalRow>().Property(each => each.Id).HasDefaultValueSql("nextval('numbers')");
        modelBuilder.Entity<SequenceRow>().Property(each => each.Id).UseSequence();
        modelBuilder.Entity<HiLoRow>().Property(each => each.Id).UseHiLo();
        modelBuilder.Entity<ClientGuidRow>();
        modelBuilder.Entity<DatabaseGuidRow>().Property(each => each.Id).HasDefaultValueSql("gen_random_uuid()");
        modelBuilder.Entity<TenantRow>().HasKey(each => new { each.Tenant, each.Number });
        modelBuilder.Entity<TenantRow>().Property(each => each.Number).UseIdentityByDefaultColumn();
        modelBuilder.Entity<Tariff>().Property(each => each.Id).HasConversion(id => id.Value, value => new TariffId(value)).UseIdentityByDefaultColumn();
        modelBuilder.Entity<Animal>();
        modelBuilder.Entity<Dog>();
        modelBuilder.Entity<Vehicle>().UseTptMappingStrategy();
        modelBuilder.Entity<Car>();
        modelBuilder.Entity<AlwaysRow>().Property(each => each.Id).UseIdentityAlwaysColumn();
        modelBuilder.Entity<MadeByDatabase>(made =>
        {
            made.Property(each => each.Shouted).HasComputedColumnSql("upper(\"Text\")", stored: true);
            made.Property(each => each.Version).IsRowVersion();
        });
    }
}
