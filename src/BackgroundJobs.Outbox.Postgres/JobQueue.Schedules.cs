using System.Text;
using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    /// <summary>Makes a schedule in the caller's transaction, or makes it over if one of its name exists.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="transaction">The caller's transaction, on a connection to the outbox's database.</param>
    /// <param name="schedule">When.</param>
    /// <param name="job">The arguments of each of its jobs.</param>
    /// <param name="enqueue">Queue, priority, attempts, headers and group of its jobs. Default: those of the kind, whose delay does not count.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>A task.</returns>
    /// <exception cref="OutboxException">The schedule cannot be used as it is; the message says why. Nothing was written.</exception>
    /// <exception cref="InvalidJobException">The job cannot be stored or run as it is. Nothing was written.</exception>
    /// <exception cref="OutboxSchemaException">The database has no outbox schema, or an older one.</exception>
    public async Task SetScheduleAsync<TJob>(
        NpgsqlTransaction transaction, JobSchedule schedule, TJob job, EnqueueOptions? enqueue = null, CancellationToken cancellationToken = default)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(transaction);
        var scheduled = ScheduledJob.Create(schedule, job, enqueue, options);
        await SetScheduleAsync(ConnectionOf(transaction), transaction, scheduled, declared: false, cancellationToken).ConfigureAwait(false);
    }

    // What the application declares at its start; whether that was new.
    internal async Task<bool> DeclareScheduleAsync(ScheduledJob scheduled, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        return await SetScheduleAsync(connection, null, scheduled, declared: true, cancellationToken).ConfigureAwait(false);
    }

    internal async Task<bool> SetScheduleAsync(
        NpgsqlConnection connection, NpgsqlTransaction? transaction, ScheduledJob scheduled, bool declared, CancellationToken cancellationToken)
    {
        var (schedule, job) = (scheduled.Schedule, scheduled.Job);
        await using var command = Sql("set_schedule").Command(
            connection,
            ("name", Value(schedule.Name)),
            ("kind", Value(job.Kind)),
            ("args", Value(options.Encryption?.Encrypt(job.Args, Guid.Empty, KeyOf(schedule.Name)) ?? job.Args)),
            ("headers", Optional(job.Headers)),
            ("queue", Value(job.Queue)),
            ("priority", Value(job.Priority)),
            ("max_attempts", Value(job.MaxAttempts)),
            ("group", Optional(job.Group)),
            ("cron", Optional(schedule.Cron)),
            ("every", Optional(schedule.Every)),
            ("time_zone", Value(schedule.TimeZone)),
            ("missed", Value(Word(schedule.Missed))),
            ("missed_limit", Value(schedule.MissedLimit)),
            ("overlap", Value(schedule.Overlap)),
            ("declared", Optional(declared ? scheduled.Fingerprint : null)));
        command.Transaction = transaction;
        try
        {
            return await command.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false) is not null;
        }
        catch (PostgresException e) when (OutboxErrors.Translate(e, options.Schema) is { } clear)
        {
            throw clear;
        }
    }

    // And how long until another one is due; null when none will be.
    internal async Task<(List<DueSchedule> Due, TimeSpan? Next)> DueSchedulesAsync(string[] unreadable, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var batch = new NpgsqlBatch(connection);
        batch.BatchCommands.Add(Sql("due_schedules").BatchCommand(("unreadable", Value(unreadable))));
        batch.BatchCommands.Add(Sql("next_tick").BatchCommand(("unreadable", Value(unreadable))));
        await options.AtAsync("due").ConfigureAwait(false);
        await using var reader = await batch.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        var due = await ReadSchedulesAsync(reader, cancellationToken).ConfigureAwait(false);
        await reader.NextResultAsync(cancellationToken).ConfigureAwait(false);
        TimeSpan? next = await reader.ReadAsync(cancellationToken).ConfigureAwait(false) ? TimeSpan.FromMilliseconds(reader.GetDouble(0)) : null;
        return (due, next);
    }

    internal async Task<DueSchedule?> FindScheduleAsync(string name, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var command = Sql("find_schedule").Command(connection, ("name", Value(name)));
        await using var reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        return (await ReadSchedulesAsync(reader, cancellationToken).ConfigureAwait(false)).SingleOrDefault();
    }

    // Throws OutboxException or JsonException where this process cannot read the schedule or its arguments.
    internal ScheduleMove MoveOf(DueSchedule schedule)
    {
        var (ticks, movedTo, next) = schedule.Due();
        return new(schedule, [.. ticks.Select(at => TickOf(schedule, at))], movedTo, next);
    }

    // Throws JsonException where this process cannot read its arguments.
    internal (DateTime At, Guid Id, string Args) TickOf(DueSchedule schedule, DateTime at)
    {
        var id = JobId.New(options.TimeProvider);
        return (at, id, ArgsOf(schedule, id));
    }

    // Of schedules that have not moved since they were read: how many jobs were enqueued.
    internal async Task<long> EnqueueTicksAsync(IReadOnlyList<ScheduleMove> moves, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await options.AtAsync("ticks").ConfigureAwait(false);
        var enqueued = await EnqueueTicksAsync(connection, null, moves, keep: false, cancellationToken).ConfigureAwait(false);
        await options.AtAsync("ticks answered").ConfigureAwait(false);
        foreach (var (hint, _, _) in enqueued)
            await SendAsync(connection, hint, cancellationToken).ConfigureAwait(false);
        return enqueued.Sum(each => each.Jobs);
    }

    // Keep: between its ticks, which stay what they are.
    internal async Task<List<Released>> EnqueueTicksAsync(
        NpgsqlConnection connection, NpgsqlTransaction? transaction, IReadOnlyList<ScheduleMove> moves, bool keep, CancellationToken cancellationToken)
    {
        List<(string Schedule, DateTime At, Guid Id, string Args)> ticks =
            [.. moves.SelectMany(move => move.Ticks.Select(tick => (move.Schedule.Name, tick.At, tick.Id, tick.Args)))];
        await using var command = Sql("enqueue_ticks").Command(
            connection,
            ("names", Value(Column(moves, move => move.Schedule.Name))),
            ("versions", Value(Column(moves, move => move.Schedule.Version))),
            ("changed_at", Value(Column(moves, move => move.Schedule.ChangedAt))),
            ("seen_at", Value(Column(moves, move => move.Schedule.LastAt))),
            ("moved_to", Value(Column(moves, move => move.MovedTo))),
            ("next_at", Value(Column(moves, move => move.Next))),
            ("keep", Value(keep)),
            ("tick_schedules", Value(Column(ticks, tick => tick.Schedule))),
            ("ticks", Value(Column(ticks, tick => tick.At))),
            ("ids", Value(Column(ticks, tick => tick.Id))),
            ("args", Value(Column(ticks, tick => tick.Args))));
        command.Transaction = transaction;
        await using var reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        return await ReadReleasedAsync(reader, cancellationToken).ConfigureAwait(false);
    }

    internal async Task NoteScheduleProblemAsync(DueSchedule schedule, string problem, CancellationToken cancellationToken)
    {
        await using var connection = await dataSource.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using var command = Sql("note_schedule_problem").Command(
            connection, ("name", Value(schedule.Name)), ("version", Value(schedule.Version)), ("problem", Value(problem)));
        await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    // Encrypted for its schedule; then, as with any job, for the job.
    private string ArgsOf(DueSchedule schedule, Guid id)
    {
        var args = JobEncryption.Decrypt(Encoding.UTF8.GetBytes(schedule.Args), Guid.Empty, KeyOf(schedule.Name), options.Encryption);
        var text = Encoding.UTF8.GetString(args);
        return options.Encryption?.Encrypt(text, id, schedule.Kind) ?? text;
    }

    // No kind has a space in it.
    private static string KeyOf(string schedule) => $"schedule {schedule}";

    private static string Word(MissedTicks missed) => missed switch
    {
        MissedTicks.Skip => "skip",
        MissedTicks.All => "all",
        _ => "once",
    };

    private static async Task<List<DueSchedule>> ReadSchedulesAsync(NpgsqlDataReader row, CancellationToken cancellationToken)
    {
        List<DueSchedule> schedules = [];
        while (await row.ReadAsync(cancellationToken).ConfigureAwait(false))
        {
            schedules.Add(new()
            {
                Name = row.GetString(0),
                Version = row.GetInt32(1),
                Cron = Text(row, 2),
                Every = row.IsDBNull(3) ? null : row.GetTimeSpan(3),
                TimeZone = row.GetString(4),
                Missed = row.GetString(5) switch { "skip" => MissedTicks.Skip, "all" => MissedTicks.All, _ => MissedTicks.Once },
                MissedLimit = row.GetInt32(6),
                Overlap = row.GetBoolean(7),
                ChangedAt = row.GetDateTime(8),
                LastAt = row.IsDBNull(9) ? null : row.GetDateTime(9),
                Kind = row.GetString(10),
                Args = row.GetString(11),
                Now = row.GetDateTime(12),
            });
        }

        return schedules;
    }
}
