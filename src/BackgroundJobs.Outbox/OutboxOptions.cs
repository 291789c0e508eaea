using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace BackgroundJobs.Outbox;

/// <summary>What every part of an application must know alike about its outbox: the schema, the JSON, the handlers.</summary>
public sealed class OutboxOptions
{
    // Before Default, which takes it: static members are made in the order of the text.
    private static JsonSerializerOptions DefaultJson { get; } = Prepared(new JsonSerializerOptions(JsonSerializerDefaults.Web)
    {
        AllowDuplicateProperties = false,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.Strict,
        PropertyNameCaseInsensitive = false,
    });

    private string schema = JobDefaults.Schema;
    private int maxArgsBytes = JobDefaults.MaxArgsBytes;
    private JsonSerializerOptions json = DefaultJson;

    internal static OutboxOptions Default { get; } = new();

    /// <summary>
    /// The schema of our tables: 1 to 41 characters of a-z, 0-9 and _, first one a letter or _. Default: <c>outbox</c>.
    /// </summary>
    /// <exception cref="OutboxException">Any other name: it goes into SQL as it is.</exception>
    public string Schema
    {
        get => schema;
        set
        {
            JobName.CheckSchema(value);
            schema = value;
        }
    }

    /// <summary>Largest arguments of a job, in bytes of JSON. Default: 65,536; the reason stands at <see cref="JobDefaults.MaxArgsBytes"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Less than 2, the size of <c>{}</c>, or more than 16 MiB.</exception>
    public int MaxArgsBytes
    {
        get => maxArgsBytes;
        set
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 2);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 16 * 1024 * 1024);
            maxArgsBytes = value;
        }
    }

    /// <summary>
    /// How arguments and cursors become JSON. Default: camelCase, no duplicate properties, required constructor parameters and nullability
    /// respected: a job enqueued by an older version that lacks a value fails with a reason, it does not run with a silent 0.
    /// A copy is kept, with a check of texts added. For Native AOT set a <c>TypeInfoResolver</c> that was generated.
    /// </summary>
    public JsonSerializerOptions Json
    {
        get => json;
        set => json = Prepared(new JsonSerializerOptions(value));
    }

    /// <summary>The clock for how long to wait; the database's clock decides what is due. Default: the system's.</summary>
    public TimeProvider TimeProvider { get; set; } = TimeProvider.System;

    /// <summary>Encrypts the arguments of jobs, and reads encrypted ones. Default: null, they stand in the database as JSON.</summary>
    public JobEncryption? Encryption { get; set; }

    // For tests: what happens before each named statement is sent ("claim"), and between its effect and its answer ("claim answered").
    internal Func<string, Task>? FaultPoint { get; set; }

    internal Task AtAsync(string point) => FaultPoint is { } fault ? fault(point) : Task.CompletedTask;

    internal JobRegistry? Registry { get; private set; }

    /// <summary>Runs jobs of a kind by a class that the container makes, in its own scope for each attempt.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <typeparam name="THandler">The handler; registered as scoped unless it is registered already.</typeparam>
    /// <param name="configure">Timeout, retry policy and history of this kind.</param>
    /// <returns>These options, for the next kind.</returns>
    /// <exception cref="OutboxException">The kind has a handler already, or an option is out of range.</exception>
    public OutboxOptions Handle<TJob, [DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] THandler>(Action<KindOptions>? configure = null)
        where TJob : IJob
        where THandler : class, IJobHandler<TJob>
    {
        Add(JobRegistration.Create<TJob, THandler>(Options(TJob.Kind, configure)));
        return this;
    }

    /// <summary>Runs jobs of a kind by a function. What it needs from the container: <see cref="JobContext.Services"/>.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="handler">The work of one attempt.</param>
    /// <param name="configure">Timeout, retry policy and history of this kind.</param>
    /// <returns>These options, for the next kind.</returns>
    /// <exception cref="OutboxException">The kind has a handler already, or an option is out of range.</exception>
    public OutboxOptions Handle<TJob>(Func<TJob, JobContext, CancellationToken, Task> handler, Action<KindOptions>? configure = null)
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(handler);
        Add(JobRegistration.Create(handler, Options(TJob.Kind, configure)));
        return this;
    }

    /// <summary>Says that jobs of a kind are enqueued here and run by another application, so that the missing handler is no mistake.</summary>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <returns>These options, for the next kind.</returns>
    public OutboxOptions AllowUnhandled<TJob>()
        where TJob : IJob
    {
        (Registry ??= new()).AllowUnhandled(TJob.Kind);
        return this;
    }

    private void Add(JobRegistration registration) => (Registry ??= new()).Add(registration);

    private static KindOptions Options(string kind, Action<KindOptions>? configure)
    {
        var options = new KindOptions();
        configure?.Invoke(options);
        options.Check(kind);
        return options;
    }

    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "Only where reflection is enabled; an AOT application sets a generated resolver.")]
    [UnconditionalSuppressMessage("AOT", "IL3050", Justification = "Only where reflection is enabled; an AOT application sets a generated resolver.")]
    private static JsonSerializerOptions Prepared(JsonSerializerOptions options)
    {
        options.Converters.Add(new JobJson.SafeStringConverter());
        if (options.TypeInfoResolver is null && JsonSerializer.IsReflectionEnabledByDefault)
            options.TypeInfoResolver = new DefaultJsonTypeInfoResolver();
        return options;
    }
}
