using System.Collections.Concurrent;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.PostgresTests.Support;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Admin;

// A migrated database, its admin, and jobs put there in the state that a test needs.
internal sealed class AdminDatabase : IAsyncDisposable
{
    private AdminDatabase(ScratchDatabase database)
    {
        Scratch = database;
        Admin = new JobAdmin(database.Operator);
        Inspector = new JobInspector(database.Operator);
    }

    public ScratchDatabase Scratch { get; }

    public JobAdmin Admin { get; }

    public JobInspector Inspector { get; }

    public static async Task<AdminDatabase> CreateAsync() => new(await ScratchDatabase.MigratedAsync());

    public async Task<Guid> WaitingAsync(string kind = "a_kind", string queue = "default", string runAt = "now()") => await Scratch.ScalarAsync<Guid>(
        $"INSERT INTO outbox.jobs (id, kind, queue, args, run_at) VALUES (outbox.new_job_id(), '{kind}', '{queue}', '{{}}', {runAt}) RETURNING id");

    public async Task<Guid> RetryingAsync(string error = "slow") => await Scratch.ScalarAsync<Guid>($$"""
        INSERT INTO outbox.jobs (id, kind, args, run_at, attempt, failures, errors)
        VALUES (outbox.new_job_id(), 'a_kind', '{}', now() + interval '1 hour', 3, 2,
            jsonb_build_array(jsonb_build_object('attempt', 3, 'type', 'System.TimeoutException', 'message', '{{error}}', 'at', now())))
        RETURNING id
        """);

    public async Task<Guid> RunningAsync(string kind = "a_kind") => await Scratch.ScalarAsync<Guid>($$"""
        INSERT INTO outbox.jobs (id, kind, args, attempt, lease_token, worker_id, claimed_at)
        VALUES (outbox.new_job_id(), '{{kind}}', '{}', 1, gen_random_uuid(), gen_random_uuid(), now())
        RETURNING id
        """);

    public async Task<Guid> FinishedAsync(string state, string error = "broken", string kind = "a_kind", string finishedAt = "now()") =>
        await Scratch.ScalarAsync<Guid>($$"""
            INSERT INTO outbox.job_history (
                id, finished_at, run_at, created_at, claimed_at, worker_id, attempt, priority, max_attempts, failures, crashes,
                state, queue, kind, args, headers, traceparent, errors)
            VALUES (
                outbox.new_job_id(), {{finishedAt}}, now() - interval '1 hour', now() - interval '1 day', now(), gen_random_uuid(), 21, 3, 20, 20, 1,
                '{{state}}', 'mails', '{{kind}}', '{"n": 7}', '{"tenant": "a"}', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
                jsonb_build_array(jsonb_build_object('attempt', 21, 'type', 'System.Exception', 'message', '{{error.Replace("'", "''", StringComparison.Ordinal)}}', 'at', now())))
            RETURNING id
            """);

    public async Task<JobState?> StateAsync(Guid id) => (await Inspector.FindAsync(id))?.State;

    public async Task<long> RowsAsync(string table, string where = "true") => await Scratch.ScalarAsync<long>($"SELECT count(*) FROM outbox.{table} WHERE {where}");

    // What NOTIFY told while the act ran, and what the workers of this process were told.
    public async Task<(List<string> Notified, List<JobHint> Raised)> HearAsync(Func<Task> act)
    {
        ConcurrentQueue<string> notified = [];
        ConcurrentQueue<JobHint> raised = [];
        await using var connection = await Scratch.DataSource.OpenConnectionAsync();
        connection.Notification += (_, e) => notified.Enqueue(e.Payload);
        await using (var listen = new NpgsqlCommand("LISTEN outbox_jobs", connection))
            await listen.ExecuteNonQueryAsync();
        var signal = JobSignal.For(connection, "outbox");
        signal.Raised += raised.Enqueue;
        await act();
        signal.Raised -= raised.Enqueue;
        // A round trip brings what was sent before it.
        await using (var roundTrip = new NpgsqlCommand("SELECT 1", connection))
            await roundTrip.ExecuteScalarAsync();
        return ([.. notified], [.. raised]);
    }

    public ValueTask DisposeAsync() => Scratch.DisposeAsync();
}
