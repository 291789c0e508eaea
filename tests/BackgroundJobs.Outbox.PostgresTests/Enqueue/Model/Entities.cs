namespace BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;

// One entity per way to get a key.
internal sealed class Server
{
    public long Id { get; set; }

    public string Name { get; set; } = "";

    public string? Note { get; set; }

    public Address Address { get; set; } = new();

    public List<Disk> Disks { get; } = [];
}

internal sealed class Address
{
    public string City { get; set; } = "";
}

internal sealed class Disk
{
    public int Id { get; set; }

    public Server Server { get; set; } = null!;

    public long ServerId { get; set; }

    public List<Partition> Partitions { get; } = [];
}

// Its key is its parent's and a number, so the server's key travels over two levels.
internal sealed class Volume
{
    public Server Server { get; set; } = null!;

    public long ServerId { get; set; }

    public int Number { get; set; }

    public List<Snapshot> Snapshots { get; } = [];
}

internal sealed class Snapshot
{
    public long ServerId { get; set; }

    public int Number { get; set; }

    public DateOnly Day { get; set; }

    public Volume Volume { get; set; } = null!;
}

internal sealed class Partition
{
    public int Id { get; set; }

    public Disk Disk { get; set; } = null!;

    public int DiskId { get; set; }
}

internal sealed class SerialRow
{
    public int Id { get; set; }
}

internal sealed class NextvalRow
{
    public long Id { get; set; }
}

internal sealed class SequenceRow
{
    public int Id { get; set; }
}

internal sealed class HiLoRow
{
    public long Id { get; set; }
}

internal sealed class ClientGuidRow
{
    public Guid Id { get; set; }
}

internal sealed class DatabaseGuidRow
{
    public Guid Id { get; set; }
}

internal sealed class TenantRow
{
    public int Tenant { get; set; }

    public long Number { get; set; }
}

internal readonly record struct TariffId(long Value);

internal sealed class Tariff
{
    public TariffId Id { get; set; }
}

internal abstract class Animal
{
    public int Id { get; set; }
}

internal sealed class Dog : Animal
{
    public string Bark { get; set; } = "";
}

internal abstract class Vehicle
{
    public int Id { get; set; }
}

internal sealed class Car : Vehicle
{
    public int Doors { get; set; }
}

internal sealed class AlwaysRow
{
    public long Id { get; set; }
}

internal sealed class MadeByDatabase
{
    public Guid Id { get; set; }

    public string Text { get; set; } = "";

    public string Shouted { get; private set; } = "";

    public uint Version { get; private set; }
}
