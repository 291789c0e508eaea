using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// E23: a job's arguments hold the key that is committed, wherever the key comes from; never silently 0.
public sealed class LateKeyTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E23_Keys_of_identity_serial_sequence_and_HiLo_columns_are_in_the_arguments(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var (server, serial, nextval, sequence, hiLo) = (new Server { Name = "a" }, new SerialRow(), new NextvalRow(), new SequenceRow(), new HiLoRow());
        db.AddRange(server, serial, nextval, sequence, hiLo);
        db.Enqueue(() => new Told("server " + server.Id));
        db.Enqueue(() => new Told("serial " + serial.Id));
        db.Enqueue(() => new Told("nextval " + nextval.Id));
        db.Enqueue(() => new Told("sequence " + sequence.Id));
        db.Enqueue(() => new Told("hilo " + hiLo.Id));
        await db.SaveAsync(sync);

        Assert.Equal(
            await shop.Database.TextsAsync("""
                select 'told {"text": "hilo ' || "Id" || '"}' from "HiLoRow"
                union all select 'told {"text": "nextval ' || "Id" || '"}' from "NextvalRow"
                union all select 'told {"text": "sequence ' || "Id" || '"}' from "SequenceRow"
                union all select 'told {"text": "serial ' || "Id" || '"}' from "SerialRow"
                union all select 'told {"text": "server ' || "Id" || '"}' from "Servers"
                order by 1
                """),
            await shop.JobsAsync());
        Assert.True(nextval.Id >= 5000);
        Assert.True(server.Id > 0 && serial.Id > 0 && sequence.Id > 0 && hiLo.Id > 0);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Guid_keys_are_in_the_arguments_whether_the_client_or_the_database_makes_them(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var (client, database) = (new ClientGuidRow(), new DatabaseGuidRow());
        db.AddRange(client, database);
        db.Enqueue(new Keyed(client.Id));
        db.Enqueue(() => new Keyed(database.Id));
        await db.SaveAsync(sync);

        Assert.Equal(
            await shop.Database.TextsAsync("""
                select 'keyed {"id": "' || "Id" || '"}' from (select "Id" from "ClientGuidRow" union all select "Id" from "DatabaseGuidRow") as ids order by 1
                """),
            await shop.JobsAsync());
    }

    [Fact]
    public async Task Composite_inherited_and_strongly_typed_keys_are_in_the_arguments()
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var (tenant, dog, car, plan) = (new TenantRow { Tenant = 7 }, new Dog(), new Car(), new Tariff());
        db.AddRange(tenant, dog, car, plan);
        db.Enqueue(() => new Told("tenant " + tenant.Tenant + "/" + tenant.Number));
        db.Enqueue(() => new Told("dog " + dog.Id));
        db.Enqueue(() => new Told("car " + car.Id));
        db.Enqueue(() => new Told("plan " + plan.Id.Value));
        await db.SaveAsync(sync: false);

        Assert.Equal(
            await shop.Database.TextsAsync("""
                select 'told {"text": "car ' || v."Id" || '"}' from "Vehicle" v join "Car" c on c."Id" = v."Id"
                union all select 'told {"text": "dog ' || "Id" || '"}' from "Animal"
                union all select 'told {"text": "plan ' || "Id" || '"}' from "Tariff"
                union all select 'told {"text": "tenant ' || "Tenant" || '/' || "Number" || '"}' from "TenantRow"
                order by 1
                """),
            await shop.JobsAsync());
        Assert.True(tenant.Number > 0 && dog.Id > 0 && car.Id > 0 && plan.Id.Value > 0);
    }

    [Fact]
    public async Task A_child_and_a_grandchild_take_the_generated_key_of_the_parent_and_owned_values_come_along()
    {
        await using var shop = await Shop.OpenAsync();
        await using var db = shop.Context();
        var server = new Server { Name = "a", Address = { City = "Ulm" } };
        var disk = new Disk { Server = server };
        var partition = new Partition { Disk = disk };
        var snapshot = new Snapshot { Day = new(2026, 1, 2), Volume = new Volume { Server = server, Number = 3 } };
        db.AddRange(server, disk, partition, snapshot);
        db.Enqueue(() => new Told("disk " + disk.ServerId + " " + server.Address.City));
        db.Enqueue(() => new Told("partition " + partition.DiskId + " of " + partition.Disk.Server.Id));
        db.Enqueue(() => new Told("snapshot " + snapshot.ServerId + "/" + snapshot.Number));
        await db.SaveAsync(sync: false);

        Assert.Equal(
            await shop.Database.TextsAsync("""
                select 'told {"text": "disk ' || "ServerId" || ' Ulm"}' from "Disk"
                union all select 'told {"text": "partition ' || p."DiskId" || ' of ' || d."ServerId" || '"}' from "Partition" p join "Disk" d on d."Id" = p."DiskId"
                union all select 'told {"text": "snapshot ' || "ServerId" || '/' || "Number" || '"}' from "Snapshot"
                order by 1
                """),
            await shop.JobsAsync());
        Assert.True(disk.ServerId > 0 && partition.DiskId > 0 && snapshot.ServerId > 0);
    }
}
