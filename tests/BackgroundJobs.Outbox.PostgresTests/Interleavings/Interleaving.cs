using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Interleavings;

// Runs some actors in given orders, each order from the same beginning and to an end that is checked. Steps are started one after the other;
// one that waits for a lock (pg_blocking_pids) is left waiting, and goes on when another step lets it.
internal sealed class Interleaving : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private readonly IReadOnlyList<Actor> actors;
    private readonly NpgsqlConnection control;
    private readonly Situation situation;
    private readonly IReadOnlyList<Session> sessions;
    private readonly Session closing;

    private Interleaving(IReadOnlyList<Actor> actors, NpgsqlConnection control, Situation situation, IReadOnlyList<Session> sessions, Session closing)
    {
        this.actors = actors;
        this.control = control;
        this.situation = situation;
        this.sessions = sessions;
        this.closing = closing;
    }

    public static async Task<Interleaving> OfAsync(ScratchDatabase database, IReadOnlyList<Actor> actors, Mutant? mutant = null, Func<NpgsqlConnection, Situation>? begin = null)
    {
        // Here: one that cannot be made would seem to be noticed.
        mutant?.Check();
        var control = await OpenAsync(database.Admin);
        var situation = begin?.Invoke(control) ?? new Situation(control) { Mutant = mutant };
        List<Session> sessions = [];

        // A mutant may need more than its role has; it is the order that is to notice it.
        foreach (var actor in actors)
            sessions.Add(new(await OpenAsync(mutant is not null ? database.Admin : actor.IsOperator ? database.Operator : database.DataSource), situation));
        return new(actors, control, situation, sessions, new(await OpenAsync(database.Admin), situation));

        static Task<NpgsqlConnection> OpenAsync(NpgsqlDataSource source) => source.OpenConnectionAsync(TestContext.Current.CancellationToken).AsTask();
    }

    public Task<int> AllAsync() => EachAsync(Orders.Of(actors));

    public Task<int> SomeAsync(int orders) => EachAsync(Orders.Some(actors, orders));

    private async Task<int> EachAsync(IEnumerable<int[]> orders)
    {
        var count = 0;
        foreach (var order in orders)
        {
            if (count++ % 50 == 0)
                await VacuumAsync();
            await OneAsync(order);
        }

        return count;
    }

    public async Task OneAsync(int[] order)
    {
        try
        {
            await situation.ResetAsync(withOldHistory: actors.Contains(Actors.Maintain));
            var at = new int[actors.Count];
            foreach (var actor in order)
            {
                sessions[actor].Add(actors[actor].Steps[at[actor]++]);
                await SettleAsync();
            }

            var began = TimeProvider.System.GetTimestamp();
            while (!sessions.All(session => session.IsIdle))
            {
                Assert.True(TimeProvider.System.GetElapsedTime(began) < Patience, "I9: sessions wait for each other and nobody ends it");
                await SettleAsync();
            }

            await situation.CheckAsync(closing);
        }
        catch (Exception e)
        {
            throw new InvalidOperationException(
                $"{e.Message}\nTo keep this order: [InlineData(\"{string.Join(", ", actors)}\", \"{string.Join(' ', order)}\")]", e);
        }
    }

    public async ValueTask DisposeAsync()
    {
        // After a failure some may still wait for each other.
        foreach (var session in sessions.Where(each => each.IsRunning))
        {
            await using var end = new NpgsqlCommand("SELECT pg_terminate_backend($1)", control) { Parameters = { new() { Value = session.ProcessId } } };
            await end.ExecuteNonQueryAsync();
            await session.Running.ContinueWith(static _ => { }, TaskScheduler.Default);
        }

        foreach (var session in sessions)
            await session.DisposeAsync();
        await closing.DisposeAsync();
        await control.DisposeAsync();
    }

    // Every order begins with deleting what the one before it left, and the checks read whole tables.
    private async Task VacuumAsync()
    {
        const string sql = """
            VACUUM outbox.jobs, outbox.job_history, outbox.job_waits, outbox.unsettled_jobs, outbox.alongside_jobs, outbox.workers,
                outbox.schedules, outbox.schedule_ticks, outbox.queues, outbox.queue_holders, outbox.job_groups, effects
            """;
        await using var command = new NpgsqlCommand(sql, control);
        await command.ExecuteNonQueryAsync();
    }

    // Until every session has done what it can: it has nothing to do, or waits for another one's lock.
    private async Task SettleAsync()
    {
        while (true)
        {
            foreach (var session in sessions)
                session.Go();
            Session[] running = [.. sessions.Where(session => session.IsRunning)];
            if (running.Length > 0)
                await Task.WhenAny(Task.WhenAll(running.Select(session => session.Running)), Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System));
            running = [.. running.Where(session => session.IsRunning)];
            if (running.Length == 0 && sessions.All(session => session.IsIdle))
            {
                foreach (var session in sessions)
                    session.Go();
                return;
            }

            if (running.Length > 0 && sessions.All(session => session.IsIdle || session.IsRunning) && await AllWaitAsync(running))
                return;
        }
    }

    private async Task<bool> AllWaitAsync(Session[] running)
    {
        await using var command = new NpgsqlCommand("SELECT bool_and(cardinality(pg_blocking_pids(pid)) > 0) FROM unnest($1) AS pid", control)
        {
            Parameters = { new() { Value = running.Select(session => session.ProcessId).ToArray() } },
        };
        return (bool)(await command.ExecuteScalarAsync())! && running.All(session => session.IsRunning);
    }
}
