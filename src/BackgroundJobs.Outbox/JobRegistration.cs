using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace BackgroundJobs.Outbox;

// A kind, and how it runs. The generic parameters are closed over here, so that nothing later needs reflection.
internal sealed class JobRegistration
{
    private readonly Func<ClaimedJob, OutboxOptions, object> read;
    private readonly Func<object, JobContext, CancellationToken, Task> run;
    private readonly Action<IServiceCollection>? register;

    private JobRegistration(
        string kind,
        KindOptions options,
        Func<ClaimedJob, OutboxOptions, object> read,
        Func<object, JobContext, CancellationToken, Task> run,
        Action<IServiceCollection>? register)
    {
        JobName.CheckKind(kind);
        Kind = kind;
        Options = options;
        this.read = read;
        this.run = run;
        this.register = register;
    }

    public string Kind { get; }

    public KindOptions Options { get; }

    public static JobRegistration Create<TJob, [DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] THandler>(KindOptions options)
        where TJob : IJob
        where THandler : class, IJobHandler<TJob> => new(
            TJob.Kind,
            options,
            Read<TJob>,
            (job, context, token) => context.Services.GetRequiredService<THandler>().HandleAsync((TJob)job, context, token),
            services => services.TryAddScoped<THandler>());

    public static JobRegistration Create<TJob>(Func<TJob, JobContext, CancellationToken, Task> handler, KindOptions options)
        where TJob : IJob => new(TJob.Kind, options, Read<TJob>, (job, context, token) => handler((TJob)job, context, token), null);

    // Throws JsonException: a payload that this version cannot read is an ordinary failure of the job.
    public object ReadArgs(ClaimedJob job, OutboxOptions options) => read(job, options);

    public Task RunAsync(object job, JobContext context, CancellationToken cancellationToken) => run(job, context, cancellationToken);

    public void Register(IServiceCollection services) => register?.Invoke(services);

    private static object Read<TJob>(ClaimedJob job, OutboxOptions options)
        where TJob : IJob => JobJson.Read<TJob>(JobEncryption.Decrypt(job.Args, job.Id, job.Kind, options.Encryption), options);
}
