namespace BackgroundJobs.Outbox;

// Where a new job stands in its workflow. DependsOn is as the column says it: {"<parent's id>": "success" | "failure" | "always"}, or, of one that runs
// at once and is waited for beside a running job, {"<id of that job>": "alongside"}; null: it waits for none.
internal sealed record WorkflowPlace(Guid WorkflowId, string? DependsOn, bool IsAlongside = false);
