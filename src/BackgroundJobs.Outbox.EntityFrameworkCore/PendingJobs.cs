using System.Transactions;
using Microsoft.EntityFrameworkCore.Infrastructure;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// What one context has enqueued and not yet seen committed. Lives and dies with the context's lease: a pooled context starts empty.
internal sealed class PendingJobs : IResettableService
{
    private readonly List<LateJob> late = [];
    private readonly List<JobHint> saved = [];
    private readonly List<TransactionalCompletion> completing = [];
    private readonly List<TransactionalCompletion> completed = [];

    // Added by Enqueue and not yet saved, as far as is known; the tracker decides.
    public List<JobRow> Rows { get; } = [];

    public Dictionary<(object Entity, JobRule Rule), LateJob> Ruled { get; } = [];

    // A command failed in the current transaction, and no savepoint was rolled back to since.
    public bool CommandFailed { get; set; }

    public IReadOnlyList<LateJob> Late
    {
        get
        {
            late.RemoveAll(job => !job.IsPending);
            return late;
        }
    }

    public void Bind(LateJob job) => late.Add(job);

    // Asked for by CompleteWith, and not saved yet.
    public bool IsCompleting => completing.Count > 0;

    // Asked for by SaveStepWith, and not saved yet.
    public bool IsKeepingSteps { get; set; }

    public void Complete(TransactionalCompletion completion) => completing.Add(completion);

    // A save went through; whether it is committed is not known yet.
    public void Saved(IEnumerable<JobHint> hints)
    {
        saved.AddRange(hints);
        completed.AddRange(completing);
        completing.Clear();
        IsKeepingSteps = false;
    }

    // The transaction of all that was saved has committed: what may be told, and who may be sure.
    public List<JobHint> Committed()
    {
        List<JobHint> hints = [.. saved];
        foreach (var each in completed)
            each.Confirm();
        Forget();
        return hints;
    }

    // What was saved was rolled back, or its end will not be seen. A completion then stays unconfirmed, and the fence tells.
    public void Forget()
    {
        saved.Clear();
        completed.Clear();
        CommandFailed = false;
    }

    // An ambient transaction tells us at its end, on whatever thread: nothing of the context may be touched then.
    public void Follow(Transaction ambient, Action<IReadOnlyList<JobHint>> raise)
    {
        List<JobHint> hints = [.. saved];
        List<TransactionalCompletion> completions = [.. completed];
        Forget();
        if (hints.Count + completions.Count == 0)
            return;
        ambient.TransactionCompleted += (_, e) =>
        {
            if (e.Transaction?.TransactionInformation.Status != TransactionStatus.Committed)
                return;
            foreach (var each in completions)
                each.Confirm();
            raise(hints);
        };
    }

    // To which savepoint, nobody tells: some of what was saved may be gone. Hints may be wrong, certainty may not.
    public void RolledBackToSavepoint()
    {
        completed.Clear();
        CommandFailed = false;
    }

    public void ResetState()
    {
        late.Clear();
        Rows.Clear();
        Ruled.Clear();
        completing.Clear();
        IsKeepingSteps = false;
        Forget();
    }

    public Task ResetStateAsync(CancellationToken cancellationToken = default)
    {
        ResetState();
        return Task.CompletedTask;
    }
}
