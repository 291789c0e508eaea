using System.Diagnostics;
using System.Globalization;
using BackgroundJobs.Outbox.Chaos.Actors;
using BackgroundJobs.Outbox.Chaos.Faults;
using BackgroundJobs.Outbox.Chaos.History;
using BackgroundJobs.Outbox.Chaos.Report;
using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos;

// One run: everything starts, is hurt, heals, drains, stops, and is checked.
internal sealed class ChaosRun(ChaosOptions options, Action<string> say)
{
    // Jobs of one group in order run one after the other, each in a fourth of a second with the attempts that it needs. What a group that nobody resumed
    // has kept back may be hundreds.
    private const string LongestInOrder =
        $"SELECT coalesce(max(jobs), 0) FROM (SELECT count(*) AS jobs FROM outbox.jobs WHERE queue IN ('{GroupQueues.Fifo}', '{GroupQueues.Strict}') GROUP BY queue, job_group) AS each";

    private static readonly TimeSpan PerJobInOrder = TimeSpan.FromSeconds(0.3);

    private readonly Checker checker = new();
    private readonly long begin = Stopwatch.GetTimestamp();

    public async Task<ChaosReport> RunAsync(CancellationToken cancellationToken)
    {
        await using var arena = await Arena.StartAsync(options, cancellationToken);
        Say($"{arena.Server.Description}; seed {options.Seed}, {options.Seconds} s of faults, lease {options.Lease.TotalSeconds:0.#} s; logs in {options.Folder}");
        foreach (var missing in AllFaults.Missing(arena))
            Say($"not injected: {missing.Name}: {missing.Reason}");
        using var reader = new HistoryReader(arena.Server, checker.Heard);
        arena.History = reader;
        await reader.StartAsync(cancellationToken);
        using var readingEnd = new CancellationTokenSource();
        var reading = reader.RunAsync(readingEnd.Token);
        await arena.Server.ExecuteAsync(
            $"INSERT INTO outbox.schedules (name, kind, cron, missed, missed_limit) VALUES ('chaos', '{TickJob.Kind}', '* * * * * *', 'all', 1000)", cancellationToken);
        arena.StartActors();

        // A calm beginning: everybody is at work before the first fault.
        await WaitAsync(arena, "SELECT EXISTS (SELECT FROM outbox.job_history WHERE state = 'completed')", TimeSpan.FromSeconds(60), cancellationToken);
        var nemesis = new Nemesis(arena, TimeSpan.FromSeconds(options.Seconds));
        await nemesis.RunAsync(fault => Say($"{fault.Name}: {fault.Effect ?? fault.Error ?? "no effect"}"), cancellationToken);

        Say("healed; the writers stop");
        foreach (var writer in arena.Writers)
            await StopAsync(writer);
        await arena.Server.ExecuteAsync("UPDATE outbox.queues SET paused_at = NULL; UPDATE outbox.schedules SET paused_at = now()", cancellationToken);
        using var people = new ActorLog(Path.Combine(options.Folder, "people.log"));
        using var drainEnd = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var resuming = ResumeGroupsAsync(arena, people, drainEnd.Token);
        var backlog = await arena.Server.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs", cancellationToken);
        var drain = Stopwatch.GetTimestamp();
        var inOrder = await arena.Server.ScalarAsync<long>(LongestInOrder, cancellationToken);
        if (!await WaitAsync(arena, "SELECT NOT EXISTS (SELECT FROM outbox.jobs)", (options.Lease * 3) + TimeSpan.FromSeconds(60) + (PerJobInOrder * inOrder), cancellationToken))
            checker.Broken(Promise.Live, $"{await arena.Server.ScalarAsync<long>("SELECT count(*) FROM outbox.jobs", cancellationToken)} jobs are left");
        var drained = Stopwatch.GetElapsedTime(drain);

        // A group comes into line half a minute after the end of its last job at the latest, and finds that it has none.
        if (!await WaitAsync(arena, $"SELECT ({GroupChecker.OutOfLine}) IS NULL", TimeSpan.FromSeconds(45), cancellationToken))
            checker.Broken(Promise.InLine, $"groups: {await arena.Server.ScalarAsync<string>(GroupChecker.OutOfLine, cancellationToken)}");
        await drainEnd.CancelAsync();
        await resuming.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        Say(string.Create(CultureInfo.InvariantCulture, $"{backlog} jobs drained in {drained.TotalSeconds:0.0} s, of which {inOrder} one after the other; the workers stop"));
        foreach (var worker in arena.Workers)
            await StopAsync(worker);
        await CheckRestAsync(arena, cancellationToken);
        await readingEnd.CancelAsync();
        await reading;

        var told = checker.Finish(arena.Workers.Select(each => each.LogFile), [.. arena.Writers.Select(each => each.LogFile), people.Path], arena.Deaths, arena.Recoveries);
        return new ChaosReport(
            options, arena.Server.Description, checker, told, nemesis.Injected, AllFaults.Missing(arena),
            [.. AllFaults.OfActors(arena).Concat(AllFaults.OfTheDatabase(arena)).Select(fault => fault.Name)], drained, reader.Transactions);
    }

    // What waits for an operator: in strict order a group whose last job is dead, and what was paused without an end. Nothing else is resumed here: what
    // was paused or pushed back until a time comes into line by itself.
    private static async Task ResumeGroupsAsync(Arena arena, ActorLog log, CancellationToken cancellationToken)
    {
        var admin = new JobAdmin(arena.Server.Admin);
        while (true)
        {
            List<(string Queue, string Group)> waiting = [];
            await using (var command = arena.Server.Admin.CreateCommand("SELECT queue, job_group FROM outbox.job_groups WHERE state = 'failed' OR paused_until = 'infinity'"))
            {
                await using var rows = await command.ExecuteReaderAsync(cancellationToken);
                while (await rows.ReadAsync(cancellationToken))
                    waiting.Add((rows.GetString(0), rows.GetString(1)));
            }

            foreach (var (queue, group) in waiting)
                await Operator.ResumeGroupAsync(admin, log, queue, group, cancellationToken);

            await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System, cancellationToken);
        }
    }

    private async Task StopAsync(ActorSlot actor)
    {
        if (!await actor.StopAsync())
            checker.Broken(Promise.Live, $"{actor.Name} did not stop when it was asked to");
        else if (actor.ExitCode != 0)
            checker.Broken(Promise.Live, $"{actor.Name} ended with {actor.ExitCode}; see its output beside {actor.LogFile}");
    }

    private async Task CheckRestAsync(Arena arena, CancellationToken cancellationToken)
    {
        // A session whose process has ended may take the server a moment.
        const string Sessions = "FROM pg_stat_activity WHERE usename = 'chaos' AND application_name <> 'chaos'";
        if (arena.Pooler is not null)
            await arena.Pooler.CommandAsync("RECONNECT");
        if (!await WaitAsync(arena, $"SELECT NOT EXISTS (SELECT {Sessions})", TimeSpan.FromSeconds(15), cancellationToken))
            checker.Broken(Promise.NoLeak, $"sessions: {await arena.Server.ScalarAsync<string>($"SELECT string_agg(concat_ws(' ', application_name, state, left(query, 60)), '; ') {Sessions}", cancellationToken)}");
        await NoneAsync(Promise.NoLeak, "SELECT count(*) FROM pg_prepared_xacts", "prepared transactions");
        await NoneAsync(Promise.NoLeak, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "advisory locks");
        await NoneAsync(Promise.NoLeak, "SELECT count(*) FROM outbox.workers", "workers");
        try
        {
            await arena.Server.ExecuteAsync(
                """
                SELECT bt_index_check(c.oid, true)
                FROM pg_index AS i
                JOIN pg_class AS c ON c.oid = i.indexrelid
                JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname IN ('outbox', 'public') AND c.relkind = 'i'
                """,
                cancellationToken);
        }
        catch (PostgresException e)
        {
            checker.Broken(Promise.Sound, e.MessageText);
        }

        async Task NoneAsync(string promise, string sql, string what)
        {
            if (await arena.Server.ScalarAsync<long>(sql, cancellationToken) is > 0 and var count)
                checker.Broken(promise, $"{count} {what}");
        }
    }

    private static async Task<bool> WaitAsync(Arena arena, string sql, TimeSpan limit, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        while (!await arena.Server.ScalarAsync<bool>(sql, cancellationToken))
        {
            if (Stopwatch.GetElapsedTime(start) > limit)
                return false;
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, cancellationToken);
        }

        return true;
    }

    private void Say(string text) => say(string.Create(CultureInfo.InvariantCulture, $"{Stopwatch.GetElapsedTime(begin).TotalSeconds,6:0.0}  {text}"));
}
