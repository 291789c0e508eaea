using Dapper;

namespace BackgroundJobs.Outbox.Postgres;

// A filter as the statements of Sql/Admin take it.
internal static class FilterParameters
{
    public const int BatchSize = 1000;

    private static readonly JobState[] Finished = [JobState.Completed, JobState.Cancelled, JobState.Dead];

    // The states of the filter that the verb can act on, as the tables say them.
    public static string[] StatesOf(JobFilter filter, params ReadOnlySpan<JobState> possible)
    {
        List<string> states = [];
        foreach (var state in possible)
        {
            if ((filter.States?.Contains(state) ?? true) && (filter.MeansUnfinished || Finished.Contains(state)))
                states.Add(Name(state));
        }

        return [.. states];
    }

    public static DynamicParameters Of(JobFilter filter, string[] states, Guid after, long limit)
    {
        var parameters = new DynamicParameters();
        parameters.Add("states", states);
        parameters.Add("ids", filter.Ids?.ToArray());
        parameters.Add("queue", Text(filter.Queue, "the filter's queue"));
        parameters.Add("kind", Text(filter.Kind, "the filter's kind"));
        parameters.Add("group", Text(filter.Group, "the filter's group"));
        parameters.Add("workflow", filter.WorkflowId);
        parameters.Add("created_after", filter.CreatedAfter?.UtcDateTime);
        parameters.Add("created_before", filter.CreatedBefore?.UtcDateTime);
        parameters.Add("finished_after", filter.FinishedAfter?.UtcDateTime);
        parameters.Add("finished_before", filter.FinishedBefore?.UtcDateTime);
        parameters.Add("error_contains", Text(filter.ErrorContains, "the filter's text"));
        parameters.Add("after", after);
        parameters.Add("limit", limit);
        return parameters;
    }

    // PostgreSQL's own error for such a text says neither which nor what to do.
    public static string? Text(string? text, string what) => text is null || JobJson.SafeStringConverter.IsStorable(text)
        ? text
        : throw new OutboxException($"Nothing was done: {what} holds a NUL or half a surrogate pair, which PostgreSQL cannot store. Clean the text first.");

    private static string Name(JobState state) => state switch
    {
        JobState.Blocked => "blocked",
        JobState.Scheduled => "scheduled",
        JobState.Waiting => "waiting",
        JobState.Retrying => "retrying",
        JobState.Running => "running",
        JobState.Completed => "completed",
        JobState.Cancelled => "cancelled",
        JobState.Dead => "dead",
        _ => throw new ArgumentOutOfRangeException(nameof(state), state, "No such state of a job."),
    };
}
