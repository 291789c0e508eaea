using System.Security.Cryptography;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.PostgresTests.Faults;

public sealed class EncryptionTests
{
    private static readonly byte[] First = RandomNumberGenerator.GetBytes(32);
    private static readonly byte[] Second = RandomNumberGenerator.GetBytes(32);

    [Fault("X17", "a job's encrypted arguments are put into another's row, changed, cut off, or of a key that is gone", "dead with a reason; the others run, those of an old key and of no key too")]
    [Fact]
    public async Task X17_encrypted_arguments_are_read_by_their_own_job_alone()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        OutboxOptions old = new() { Encryption = new JobEncryption("first", First) }, now = new() { Encryption = new JobEncryption("second", Second) };
        OutboxOptions lost = new() { Encryption = new JobEncryption("lost", RandomNumberGenerator.GetBytes(32)) };
        var jobs = new Dictionary<string, NewJob>
        {
            ["old key"] = NewJob.Create(new OtherJob("canary old"), outbox: old),
            ["new key"] = NewJob.Create(new OtherJob("canary new"), outbox: now),
            ["no key"] = NewJob.Create(new OtherJob("open")),
            ["moved"] = NewJob.Create(new OtherJob("canary moved"), outbox: now),
            ["changed"] = NewJob.Create(new OtherJob("canary changed"), outbox: now),
            ["cut"] = NewJob.Create(new OtherJob("canary cut"), outbox: now),
            ["lost key"] = NewJob.Create(new OtherJob("canary lost"), outbox: lost),
        };
        await new Postgres.JobQueue(database.Enqueuer).EnqueueAsync(jobs.Values, TestContext.Current.CancellationToken);
        Assert.Equal(0L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE args::text LIKE '%canary%'"));
        Assert.Equal(6L, await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs WHERE args ? '$encrypted'"));
        await database.ExecuteAsync($"UPDATE outbox.jobs SET args = (SELECT args FROM outbox.jobs WHERE id = '{jobs["new key"].Id}') WHERE id = '{jobs["moved"].Id}'");
        await database.ExecuteAsync($"UPDATE outbox.jobs SET args = jsonb_set(args, '{{data}}', to_jsonb(overlay(args->>'data' PLACING 'AAAA' FROM 41))) WHERE id = '{jobs["changed"].Id}'");
        await database.ExecuteAsync($"UPDATE outbox.jobs SET args = jsonb_set(args, '{{data}}', '\"AAAA\"') WHERE id = '{jobs["cut"].Id}'");

        List<string> read = [];
        await using var worker = await WorkerHost.StartAsync(database, o =>
        {
            o.Encryption = new JobEncryption("second", Second).AddOldKey("first", First);
            o.Handle<OtherJob>(
                (job, _, _) =>
                {
                    lock (read)
                        read.Add(job.Text);
                    return Task.CompletedTask;
                },
                kind => kind.Retry = RetryPolicy.None);
        });
        await Eventually.TrueAsync(async () => await database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "all have ended");
        Assert.Equal(["canary new", "canary old", "open"], read.Order());
        await DeadAsync("moved", "not those of this job");
        await DeadAsync("changed", "not those of this job");
        await DeadAsync("cut", "cut off");
        await DeadAsync("lost key", "key 'lost', which this worker does not have");
        Assert.DoesNotContain("canary", await database.ScalarAsync<string>("SELECT string_agg(concat(errors, args), '') FROM outbox.job_history WHERE NOT args::text LIKE '%open%'"), StringComparison.Ordinal);

        async Task DeadAsync(string what, string reason) => Assert.Contains(
            reason,
            await database.ScalarAsync<string>($"SELECT errors->-1->>'message' FROM outbox.job_history WHERE state = 'dead' AND id = '{jobs[what].Id}'"),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_EF_saves_is_encrypted_too_where_a_key_is_in_the_arguments()
    {
        await using var shop = await Shop.OpenAsync(runsJobs: true);
        var options = new DbContextOptionsBuilder<ShopContext>().UseNpgsql(shop.Database.DataSource).UseOutbox(o => o.Encryption = new JobEncryption("first", First)).Options;
        await using (var db = new ShopContext(options))
        {
            var server = new Server { Name = "a" };
            db.Add(server);
            db.Enqueue(() => new OtherJob("canary " + server.Id));
            db.Enqueue(new OtherJob("canary now"));
            await db.SaveChangesAsync(TestContext.Current.CancellationToken);
        }

        Assert.Equal("2|2", await shop.Database.ScalarAsync<string>("SELECT concat_ws('|', count(*), count(*) FILTER (WHERE args ? '$encrypted' AND args::text NOT LIKE '%canary%')) FROM outbox.jobs"));
        List<string> read = [];
        await using var worker = await WorkerHost.StartAsync(shop.Database, o =>
        {
            o.Encryption = new JobEncryption("first", First);
            o.Handle<OtherJob>((job, _, _) =>
            {
                lock (read)
                    read.Add(job.Text);
                return Task.CompletedTask;
            });
        });
        await Eventually.TrueAsync(async () => await shop.Database.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs") == 0, "both have ended");
        Assert.Equal(["canary 1", "canary now"], read.Order());
    }

    [Fact]
    public async Task A_worker_without_keys_says_so()
    {
        await using var database = await ScratchDatabase.MigratedAsync();
        await new Postgres.JobQueue(database.Enqueuer).EnqueueAsync(
            [NewJob.Create(new OtherJob("a"), outbox: new() { Encryption = new JobEncryption("first", First) })], TestContext.Current.CancellationToken);
        await using var worker = await WorkerHost.StartAsync(database, o => o.Handle<OtherJob>((_, _, _) => Task.CompletedTask, kind => kind.Retry = RetryPolicy.None));
        await Eventually.TrueAsync(
            async () => await database.ScalarAsync<string>("SELECT errors->-1->>'message' FROM outbox.job_history WHERE state = 'dead'") is { } message && message.Contains("OutboxOptions.Encryption", StringComparison.Ordinal),
            "it is dead with a reason");
    }

    [Theory]
    [InlineData("", 32)]
    [InlineData("Key", 32)]
    [InlineData("a\"b", 32)]
    [InlineData("key", 16)]
    [InlineData("key", 0)]
    public void A_key_that_cannot_be_used_is_refused_at_once(string keyId, int bytes)
    {
        Assert.Throws<OutboxException>(() => new JobEncryption(keyId, new byte[bytes]));
        Assert.Throws<OutboxException>(() => new JobEncryption("first", First).AddOldKey(keyId, new byte[bytes]));
        Assert.Throws<OutboxException>(() => new JobEncryption("first", First).AddOldKey("first", Second));
    }
}
