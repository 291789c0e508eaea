using System.Globalization;
using BackgroundJobs.Outbox;
using Microsoft.EntityFrameworkCore;

namespace Invoices;

// The schedule's job: begins the month.
internal sealed record StartInvoices : IJob
{
    public static string Kind => "start_invoices";
}

internal sealed record CollectOrders(long CustomerId) : IJob
{
    public static string Kind => "collect_orders";
}

internal sealed record RenderInvoice(long CustomerId, string Month) : IJob
{
    public static string Kind => "render_invoice";
}

internal sealed record MailInvoice(string Email) : IJob
{
    public static string Kind => "mail_invoice";
}

internal sealed record ReportInvoices(string Month) : IJob
{
    public static string Kind => "report_invoices";
}

// Of each customer three jobs that wait for each other, and one for all that waits for every mail; all of it, and the end of this job, is one COMMIT.
internal sealed class StartInvoicesHandler(InvoicesDb db) : IJobHandler<StartInvoices>
{
    public async Task HandleAsync(StartInvoices job, JobContext context, CancellationToken cancellationToken)
    {
        var month = context.Tick!.At.ToString("yyyy-MM", CultureInfo.InvariantCulture);
        var flow = db.StartWorkflow();
        List<WorkflowJob> mails = [];
        foreach (var customer in await db.Customers.OrderBy(each => each.Id).ToListAsync(cancellationToken))
        {
            var collect = flow.Enqueue(new CollectOrders(customer.Id));
            var render = flow.Enqueue(new RenderInvoice(customer.Id, month), after: collect);
            mails.Add(flow.Enqueue(new MailInvoice(customer.Email), new() { Queue = "mail", Group = customer.Email.Split('@')[1] }, after: render));
        }

        flow.Enqueue(new ReportInvoices(month), after: [.. mails.Select(mail => mail.Always)]);
        context.Result(flow.Id);
        context.CompleteWith(db);
        await db.SaveChangesAsync(cancellationToken);
        Console.WriteLine($"start    the invoices of {month}: {mails.Count} customers, a workflow of {(3 * mails.Count) + 1} jobs");
    }
}

internal sealed class CollectOrdersHandler(InvoicesDb db) : IJobHandler<CollectOrders>
{
    public async Task HandleAsync(CollectOrders job, JobContext context, CancellationToken cancellationToken) =>
        context.Result(await db.Orders.Where(each => each.CustomerId == job.CustomerId).SumAsync(each => each.Amount, cancellationToken));
}

internal sealed class RenderInvoiceHandler(InvoicesDb db) : IJobHandler<RenderInvoice>
{
    public async Task HandleAsync(RenderInvoice job, JobContext context, CancellationToken cancellationToken)
    {
        var amount = (await context.ParentsAsync(cancellationToken)).Single().Result<decimal>();

        // The invoice and the end of its job are one COMMIT: a customer gets one, whatever crashes.
        db.Add(new Invoice { CustomerId = job.CustomerId, Month = job.Month, Amount = amount });
        context.Result(job.CustomerId);
        context.CompleteWith(db);
        await db.SaveChangesAsync(cancellationToken);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"render   customer {job.CustomerId}: {amount:0.00}"));
    }
}

internal sealed class MailInvoiceHandler(InvoicesDb db, MailProvider provider, TimeProvider clock) : IJobHandler<MailInvoice>
{
    public async Task HandleAsync(MailInvoice job, JobContext context, CancellationToken cancellationToken)
    {
        var customerId = (await context.ParentsAsync(cancellationToken)).Single().Result<long>();
        if (provider.Send(job.Email, idempotencyKey: context.JobId) is { } retryAfter)
        {
            // No failure: the job comes again, and no worker sends a mail of its group before.
            context.PushBack(retryAfter);
            Console.WriteLine($"mail     {job.Email}: 429, nobody writes to {context.Group} for {retryAfter.TotalSeconds} s; all others go on");
            return;
        }

        var invoice = await db.Invoices.OrderBy(each => each.Id).LastAsync(each => each.CustomerId == customerId, cancellationToken);
        invoice.MailedAt = clock.GetUtcNow().UtcDateTime;
        context.Result(invoice.Amount);
        context.CompleteWith(db);
        await db.SaveChangesAsync(cancellationToken);
        Console.WriteLine($"mail     {job.Email}: sent");
    }
}

internal sealed class ReportInvoicesHandler : IJobHandler<ReportInvoices>
{
    public async Task HandleAsync(ReportInvoices job, JobContext context, CancellationToken cancellationToken)
    {
        var mails = await context.ParentsAsync(cancellationToken);
        var sent = mails.Where(mail => mail.State == JobState.Completed).Select(mail => mail.Result<decimal>()).ToList();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"report   {job.Month}: {sent.Count} of {mails.Count} mails sent, {sent.Sum():0.00} in all"));
    }
}
