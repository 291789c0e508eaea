using BackgroundJobs.Outbox.EntityFrameworkCore;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// Jobs that have to do with others are inserted in their own way, so that those that do not pay nothing for them.
public sealed class RelatedJobTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Every_job_is_saved_with_all_that_it_has_and_a_plain_one_says_no_more(bool sync)
    {
        await using var shop = await Shop.OpenAsync();
        List<string> inserts = [];
        await using var db = shop.Context(options => options.LogTo(
            (id, _) => id == RelationalEventId.CommandExecuted, data => inserts.Add(((CommandExecutedEventData)data).Command.CommandText)));
        db.Enqueue(new Told("plain"));
        await db.SaveAsync(sync);
        var plain = Assert.Single(inserts);
        Assert.Contains("INSERT INTO outbox.jobs (id, args, headers, kind, max_attempts, priority, queue, traceparent)", plain, StringComparison.Ordinal);

        var flow = db.StartWorkflow();
        var parent = flow.Enqueue(new Told("parent"));
        flow.Enqueue(new Told("child"), null, parent);
        db.Enqueue(new Told("grouped"), new EnqueueOptions { Group = "tenant 7", Queue = "mail", Priority = 1 });
        db.Enqueue(new Told("unique"), new EnqueueOptions { Unique = UniqueJob.WhileWaiting("key") });
        var server = new Server { Name = "late" };
        db.Add(server);
        db.Enqueue(() => new BootServer(server.Id), new EnqueueOptions { Group = "tenant 8", Delay = TimeSpan.FromHours(1) });
        Assert.Equal(6, await db.SaveAsync(sync));

        Assert.Equal(
            [
                "child - -2 default true {parent: success} f",
                "grouped tenant 7 1 mail - - f",
                "late tenant 8 2 default - - t",
                "parent - 2 default true - f",
                "plain - 2 default - - f",
                "unique - -2 default - - f key {\"rule\": \"waiting\"}",
            ],
            await shop.Database.TextsAsync($$"""
                select concat_ws(' ', coalesce(args ->> 'text', 'late'), coalesce(job_group, '-'), priority, queue, coalesce((workflow_id = '{{flow.Id}}')::text, '-'),
                    coalesce('{' || replace(translate(depends_on::text, '"{}', ''), '{{parent.Id}}', 'parent') || '}', '-'), run_at > now(), unique_key, unique_rule::text)
                from outbox.jobs
                order by 1
                """));
        Assert.All(db.ChangeTracker.Entries(), entry => Assert.IsNotAssignableFrom<JobRow>(entry.Entity));
    }

    [Fact]
    public async Task A_schema_that_is_older_says_so_for_those_alone()
    {
        await using var shop = await Shop.OpenAsync();
        await shop.Database.ExecuteAsync("drop view outbox.related_jobs");
        await using var db = shop.Context();
        db.Enqueue(new Told("plain"));
        await db.SaveAsync(sync: false);
        db.Enqueue(new Told("grouped"), new EnqueueOptions { Group = "a" });
        var error = await Assert.ThrowsAsync<OutboxSchemaException>(() => db.SaveAsync(sync: false));
        Assert.Contains("is older than this version", error.Message, StringComparison.Ordinal);
        Assert.Equal(["told {\"text\": \"plain\"}"], await shop.JobsAsync());
    }
}
