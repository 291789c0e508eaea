using BackgroundJobs.Outbox.Postgres;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace BackgroundJobs.Outbox.PostgresTests.Examples;

// The examples of docs/workflows.md, compiled. What stands between the marks stands there, word for word.
internal static class WorkflowsExample
{
    public static async Task GraphAsync(DbContext db, Order order, int[] pages)
    {
        // readme:begin
        var flow = db.StartWorkflow();
        var fetch = flow.Enqueue(() => new FetchOrder(order.Id));                   // a key that this very SaveChanges makes
        var parts = pages.Select(page => flow.Enqueue(new RenderPage(page), after: fetch)).ToList();
        var bind = flow.Enqueue(new BindBook(flow.Id), after: [.. parts]);          // when all of them have completed
        flow.Enqueue(new MailBook(flow.Id), after: bind);
        flow.Enqueue(new Apologise(flow.Id), after: bind.OnFailure);                // only if it is dead, cancelled or deleted
        flow.Enqueue(new TidyUp(flow.Id), after: [bind.Always]);                    // however it ended
        await db.SaveChangesAsync();                                                // all of it, or nothing
        // readme:end
    }

    public static async Task BatchAsync(JobQueue queue, NpgsqlTransaction npgsqlTransaction, int[] customers)
    {
        // readme:begin
        JobWorkflow batch = new();
        var mails = customers.Select(customer => batch.Add(new SendMail(customer))).ToList();
        batch.Add(new ReportMails(batch.Id), after: [.. mails.Select(mail => mail.Always)]);   // a batch: N jobs, and one when all have ended
        await queue.EnqueueAsync(npgsqlTransaction, batch.Jobs);
        // readme:end
    }

    public static void Result(JobContext context, string path)
    {
        // readme:begin
        context.Result(new Rendered(path));                                        // in the parent's handler, before CompleteWith
        // readme:end
    }

    public static async Task<IEnumerable<Rendered?>> ResultsAsync(JobContext context, CancellationToken cancellationToken)
    {
        // readme:begin
        var rendered = (await context.ParentsAsync(cancellationToken)).Select(parent => parent.Result<Rendered>());
        // readme:end
        return rendered;
    }

    public static async Task<WorkflowJob> MoreAsync(JobContext context, DbContext db, CancellationToken cancellationToken)
    {
        // readme:begin
        context.CompleteWith(db);
        var more = db.ContinueWorkflow(context);
        var next = more.Enqueue(new RenderPage(13), after: more.Existing(context.JobId));
        await db.SaveChangesAsync(cancellationToken);                              // its end and the new jobs, or neither
        // readme:end
        return next;
    }

    public static async Task GrowAsync(JobContext context, DbContext db, int[] pages, CancellationToken cancellationToken)
    {
        // readme:begin
        context.CompleteWith(db);
        var more = db.ContinueWorkflow(context);
        foreach (var page in pages)
            more.EnqueueAlongside(new RenderPage(page));                           // BindBook waits for these too
        await db.SaveChangesAsync(cancellationToken);
        // readme:end
    }

    public static async Task<EndedJob> WaitAsync(JobQueue queue, Guid jobId, JobWorkflow batch, CancellationToken cancellationToken)
    {
        // readme:begin
        var ended = await queue.WaitAsync(jobId, TimeSpan.FromSeconds(30), cancellationToken);         // how, and its result
        await queue.WaitForWorkflowAsync(batch.Id, TimeSpan.FromMinutes(10), cancellationToken);
        // readme:end
        return ended;
    }

    internal sealed record Order(int Id);

    internal sealed record Rendered(string Path);

    internal sealed record FetchOrder(int OrderId) : IJob
    {
        public static string Kind => "fetch_order";
    }

    internal sealed record RenderPage(int Page) : IJob
    {
        public static string Kind => "render_page";
    }

    internal sealed record BindBook(Guid Workflow) : IJob
    {
        public static string Kind => "bind_book";
    }

    internal sealed record MailBook(Guid Workflow) : IJob
    {
        public static string Kind => "mail_book";
    }

    internal sealed record Apologise(Guid Workflow) : IJob
    {
        public static string Kind => "apologise";
    }

    internal sealed record TidyUp(Guid Workflow) : IJob
    {
        public static string Kind => "tidy_up";
    }

    internal sealed record SendMail(int Customer) : IJob
    {
        public static string Kind => "send_mail";
    }

    internal sealed record ReportMails(Guid Workflow) : IJob
    {
        public static string Kind => "report_mails";
    }
}
