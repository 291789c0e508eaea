using Npgsql;
using NpgsqlTypes;

namespace BackgroundJobs.Outbox.Postgres;

public sealed partial class JobQueue
{
    // Arrays of values came to 0.4 of a bare COPY's rate, this to 0.8 (decision 5); it needs more round trips, which few jobs would not pay back.
    private const int ManyJobs = 500;

    private async Task<List<JobHint>> CopyAsync(
        NpgsqlConnection connection, List<NewJob> first, IEnumerator<NewJob> rest, CancellationToken cancellationToken)
    {
        DateTime now;
        await using (var time = SqlCommands.Command(Sql("transaction_time"), connection))
            now = (DateTime)(await time.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false))!;

        Dictionary<string, DateTime> oldest = new(StringComparer.Ordinal);
        var copy = await connection.BeginBinaryImportAsync(Sql("copy_jobs").Text, cancellationToken).ConfigureAwait(false);
        await using (copy.ConfigureAwait(false))
        {
            for (var at = 0; at < first.Count || rest.MoveNext(); at++)
            {
                var job = at < first.Count ? first[at] : rest.Current;
                var runAt = job.RunAt ?? now + (job.Delay ?? TimeSpan.Zero);
                if (!oldest.TryGetValue(job.Queue, out var known) || runAt < known)
                    oldest[job.Queue] = runAt;
                if (job.UniqueKey is not null)
                    oldest[JobHint.Unsettled.Queue] = JobHint.Unsettled.RunAt;
                await copy.StartRowAsync(cancellationToken).ConfigureAwait(false);
                await copy.WriteAsync(job.Id, NpgsqlDbType.Uuid, cancellationToken).ConfigureAwait(false);
                await copy.WriteAsync(job.Kind, NpgsqlDbType.Text, cancellationToken).ConfigureAwait(false);
                await copy.WriteAsync(job.Args, NpgsqlDbType.Jsonb, cancellationToken).ConfigureAwait(false);
                await copy.WriteAsync(job.Queue, NpgsqlDbType.Text, cancellationToken).ConfigureAwait(false);
                await copy.WriteAsync(job.StoredPriority, NpgsqlDbType.Smallint, cancellationToken).ConfigureAwait(false);
                await copy.WriteAsync(runAt, NpgsqlDbType.TimestampTz, cancellationToken).ConfigureAwait(false);
                await copy.WriteAsync(job.MaxAttempts, NpgsqlDbType.Smallint, cancellationToken).ConfigureAwait(false);
                await WriteAsync(job.Headers, NpgsqlDbType.Jsonb).ConfigureAwait(false);
                await WriteAsync(job.TraceParent, NpgsqlDbType.Text).ConfigureAwait(false);
                if (job.WorkflowId is { } workflow)
                    await copy.WriteAsync(workflow, NpgsqlDbType.Uuid, cancellationToken).ConfigureAwait(false);
                else
                    await copy.WriteNullAsync(cancellationToken).ConfigureAwait(false);
                await WriteAsync(job.DependsOn, NpgsqlDbType.Jsonb).ConfigureAwait(false);
                await WriteAsync(job.Group, NpgsqlDbType.Text).ConfigureAwait(false);
                await WriteAsync(job.UniqueKey, NpgsqlDbType.Text).ConfigureAwait(false);
                await WriteAsync(job.UniqueRule, NpgsqlDbType.Jsonb).ConfigureAwait(false);
            }

            await copy.CompleteAsync(cancellationToken).ConfigureAwait(false);
        }

        return [.. oldest.Select(each => new JobHint(each.Key, each.Value))];

        Task WriteAsync(string? value, NpgsqlDbType type) =>
            value is null ? copy.WriteNullAsync(cancellationToken) : copy.WriteAsync(value, type, cancellationToken);
    }
}
