namespace BackgroundJobs.Outbox;

public sealed partial class JobContext
{
    private JobSteps? steps;

    // Keeps a step, fenced: job, name, step.
    internal Func<ClaimedJob, string, string, Task>? StepKeeper { get; init; }

    internal JobSteps Steps => LazyInitializer.EnsureInitialized(ref steps, () => new JobSteps(Job, options));

    /// <summary>
    /// Does a step of the job once: when it is done its result is kept, and a later attempt gets the result and goes on behind it. If the
    /// process dies, or the database is away, between the step's effect and its record, it runs again: give the other side <see cref="JobId"/> and the step's name as idempotency key, or,
    /// for an effect in the outbox's database, keep it in the handler's own transaction (<c>SaveStepAsync</c> on Npgsql).
    /// </summary>
    /// <typeparam name="T">The result; serialises to JSON.</typeparam>
    /// <param name="name">One step's in this job: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.</param>
    /// <param name="step">The work.</param>
    /// <param name="cancellationToken">Passed on to the step; what it has done is kept even if it is cancelled afterwards.</param>
    /// <returns>The result, of this attempt or of an earlier one.</returns>
    /// <exception cref="LeaseLostException">The step was done, and the attempt no longer owns the job: nothing was kept, another attempt may be running.</exception>
    /// <exception cref="InvalidJobException">No such name is allowed; or, after the step, its result does not serialise, or the job's results are too large together.</exception>
    public async Task<T> StepAsync<T>(string name, Func<CancellationToken, Task<T>> step, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(step);
        if (Steps.TryGet<T>(name, out var kept))
            return kept!;
        cancellationToken.ThrowIfCancellationRequested();
        var result = await step(cancellationToken).ConfigureAwait(false);
        await KeepAsync(name, result).ConfigureAwait(false);
        return result;
    }

    /// <summary>As the other one, for a step without a result.</summary>
    /// <param name="name">One step's in this job: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.</param>
    /// <param name="step">The work.</param>
    /// <param name="cancellationToken">Passed on to the step.</param>
    /// <returns>A task.</returns>
    /// <exception cref="LeaseLostException">The step was done, and the attempt no longer owns the job: nothing was kept.</exception>
    /// <exception cref="InvalidJobException">No such name is allowed.</exception>
    public Task StepAsync(string name, Func<CancellationToken, Task> step, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(step);
        return Steps.Has(name) ? Task.CompletedTask : DoAsync();

        async Task DoAsync()
        {
            cancellationToken.ThrowIfCancellationRequested();
            await step(cancellationToken).ConfigureAwait(false);
            await KeepAsync<object>(name, null).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// The result of a step that was done, by this attempt or an earlier one; of one that this attempt has kept in a transaction of its own, from the
    /// next attempt on: whether that was committed, only the handler knows.
    /// </summary>
    /// <typeparam name="T">The type it was kept as.</typeparam>
    /// <param name="name">The step.</param>
    /// <param name="result">The result.</param>
    /// <returns>False when the step is still to be done.</returns>
    /// <exception cref="System.Text.Json.JsonException">The result is of another shape.</exception>
    public bool TryGetStep<T>(string name, out T? result) => Steps.TryGet(name, out result);

    private async Task KeepAsync<T>(string name, T? result)
    {
        var step = Steps.Write(name, result);
        if (StepKeeper is not null)
            await StepKeeper(Job, name, step).ConfigureAwait(false);
        Steps.Done(name, step);
    }
}
