using BackgroundJobs.Outbox.Chaos.Server;
using BackgroundJobs.Outbox.PostgresTests.Enqueue.Model;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Enqueue;

// A network between the application and its database that hits the COMMIT, or the answer to it.
public sealed class CommitFaultTests
{
    public static TheoryData<bool, bool> BothWays => new() { { true, true }, { true, false }, { false, true }, { false, false } };

    [Fault("E03", "COMMIT never reaches the server", "an error, and nothing is there")]
    [Theory]
    [MemberData(nameof(BothWays))]
    public async Task E03_A_commit_that_never_arrives_leaves_nothing_and_is_an_error(bool sync, bool own)
    {
        await using var stage = await Stage.OpenAsync();
        foreach (var fault in new[] { CommitFault.Drop, CommitFault.Half })
        {
            stage.Proxy.Arm(fault);
            Assert.NotNull(await Record.ExceptionAsync(() => stage.SaveAsync(sync, own)));
        }

        await stage.HasAsync(0);
    }

    // Not a PostgresException: no server said that it failed.
    [Fault("E04", "COMMIT happens and its answer is lost", "both are there, and the caller is told that the outcome is unknown")]
    [Theory]
    [MemberData(nameof(BothWays))]
    public async Task E04_A_commit_whose_answer_is_lost_has_happened_and_is_not_called_failed(bool sync, bool own)
    {
        await using var stage = await Stage.OpenAsync();
        stage.Proxy.Arm(CommitFault.LoseAnswer);
        var error = await Assert.ThrowsAnyAsync<Exception>(() => stage.SaveAsync(sync, own));
        for (var each = error; each is not null; each = each.InnerException)
            Assert.IsNotType<PostgresException>(each);
        await stage.HasAsync(1);
    }

    // The second insert finds the first one's id, so that the retry cannot save it twice; what it throws says where to look.
    [Fault("E05", "the same under EnableRetryOnFailure", "one entity, one job, and the save reports success")]
    [Fault("E32", "the same job id is inserted again by a retry", "it is read back before it is called committed")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E05_E32_A_strategy_that_retries_a_commit_whose_answer_was_lost_does_not_save_twice(bool sync)
    {
        await using var stage = await Stage.OpenAsync();
        stage.Proxy.Arm(CommitFault.LoseAnswer);
        await Assert.ThrowsAsync<DuplicateJobException>(() => stage.SaveAsync(sync, own: false, retry: true));
        await stage.HasAsync(1);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E03_A_strategy_that_retries_a_commit_that_never_arrived_saves_once(bool sync)
    {
        await using var stage = await Stage.OpenAsync();
        stage.Proxy.Arm(CommitFault.Drop);
        await stage.SaveAsync(sync, own: false, retry: true);
        await stage.HasAsync(1);
    }

    // The server is still at it when the retry comes: its insert waits for the first commit's outcome.
    [Fault("E06", "a retry meets the first commit still under way", "it waits for it; no second insert")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E06_A_retry_that_meets_the_first_commit_still_under_way_waits_for_it(bool sync)
    {
        await using var stage = await Stage.OpenAsync();
        await stage.SlowCommitsAsync(seconds: 1);
        stage.Proxy.Arm(CommitFault.Reset);
        var error = await Record.ExceptionAsync(() => stage.SaveAsync(sync, own: false, retry: true));

        // The cut may have come before the server had read the commit; then the retry is the one that saved.
        Assert.True(error is null or DuplicateJobException, $"{error}");
        await stage.HasAsync(1);
    }

    // Who goes away while the commit is under way hears that he went, not that it failed, unless the server says so.
    [Fault("E08", "the user goes away during the commit", "never told that what is there has failed")]
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task E08_A_user_who_goes_away_during_the_commit_is_never_told_that_what_is_there_failed(bool own)
    {
        await using var stage = await Stage.OpenAsync();
        using var user = new CancellationTokenSource();
        stage.Proxy.Arm(CommitFault.DelayAnswer);
        var saving = stage.SaveAsync(sync: false, own, cancellationToken: user.Token);
        await Eventually.TrueAsync(() => stage.Proxy.Fired == 1, "the commit is on its way");
        await Eventually.TrueAsync(async () => await stage.Shop.ServersAsync() == 1, "it has happened");
        await user.CancelAsync();
        var error = await Record.ExceptionAsync(() => saving);
        Assert.True(error is null or OperationCanceledException, $"{error}");
        await stage.HasAsync(1);
    }

    private sealed class Stage : IAsyncDisposable
    {
        private Stage(Shop shop)
        {
            Shop = shop;
            Proxy = FaultProxy.Before(shop.Database.ConnectionString);
        }

        public Shop Shop { get; }

        public FaultProxy Proxy { get; }

        public static async Task<Stage> OpenAsync() => new(await Shop.OpenAsync());

        public async Task SaveAsync(bool sync, bool own, bool retry = false, CancellationToken cancellationToken = default)
        {
            await using var db = Shop.Context(options => options.UseNpgsql(Proxy.ConnectionString, npgsql =>
            {
                if (retry)
                    npgsql.EnableRetryOnFailure(3, TimeSpan.FromMilliseconds(50), null);
            }));
            var server = new Server { Name = "a" };
            db.Add(server);
            db.Enqueue(() => new BootServer(server.Id));
#pragma warning disable CA1849 // The synchronous path is tested too.
            if (!own)
            {
                _ = sync ? db.SaveChanges() : await db.SaveChangesAsync(cancellationToken);
                return;
            }

            await using var transaction = sync ? db.Database.BeginTransaction() : await db.Database.BeginTransactionAsync(cancellationToken);
            _ = sync ? db.SaveChanges() : await db.SaveChangesAsync(cancellationToken);
            if (sync)
                transaction.Commit();
            else
                await transaction.CommitAsync(cancellationToken);
#pragma warning restore CA1849
        }

        public Task SlowCommitsAsync(int seconds) => Shop.Database.ExecuteAsync($"""
            CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON "Servers" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
            """);

        // So many servers, each with the one job that names it.
        public async Task HasAsync(int servers)
        {
            Assert.True(Proxy.Fired > 0, "the fault was never injected");

            // Whoever is still at it comes to an end first.
            await Shop.Database.ExecuteAsync("BEGIN; LOCK TABLE \"Servers\" IN SHARE MODE; COMMIT");
            Assert.Equal($"{servers}|{servers}|{servers}", await Shop.Database.ScalarAsync<string>("""
                SELECT concat_ws('|', (SELECT count(*) FROM "Servers"), (SELECT count(*) FROM outbox.jobs),
                                 (SELECT count(*) FROM outbox.jobs JOIN "Servers" AS server ON server."Id" = (args->>'serverId')::bigint))
                """));
        }

        public async ValueTask DisposeAsync()
        {
            await Proxy.DisposeAsync();
            await Shop.DisposeAsync();
        }
    }
}
