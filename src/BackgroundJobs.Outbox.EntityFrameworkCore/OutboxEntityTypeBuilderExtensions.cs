using System.Linq.Expressions;
using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Rules next to an entity's configuration: what follows when it is saved. The context needs <c>UseOutbox()</c>.</summary>
public static class OutboxEntityTypeBuilderExtensions
{
    /// <summary>Every insert of such an entity enqueues this job, in the same SaveChanges. May be called several times, for several jobs.</summary>
    /// <typeparam name="TEntity">The entity, or a base type of it.</typeparam>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="builder">The entity's configuration.</param>
    /// <param name="job">Makes the job; may read keys that the database makes.</param>
    /// <param name="options">Wishes for these jobs. Default: those of the kind.</param>
    /// <returns>The same builder.</returns>
    public static EntityTypeBuilder<TEntity> EnqueuesOnInsert<TEntity, TJob>(
        this EntityTypeBuilder<TEntity> builder, Expression<Func<TEntity, TJob>> job, EnqueueOptions? options = null)
        where TEntity : class
        where TJob : IJob => Add(builder, EntityState.Added, job, options, []);

    /// <summary>Every update of such an entity enqueues this job, in the same SaveChanges.</summary>
    /// <typeparam name="TEntity">The entity, or a base type of it.</typeparam>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="builder">The entity's configuration.</param>
    /// <param name="job">Makes the job, with the new values.</param>
    /// <param name="properties">Only when one of these is modified. Default: whichever is.</param>
    /// <returns>The same builder.</returns>
    /// <exception cref="ArgumentException">An expression that is no property of the entity.</exception>
    public static EntityTypeBuilder<TEntity> EnqueuesOnUpdate<TEntity, TJob>(
        this EntityTypeBuilder<TEntity> builder, Expression<Func<TEntity, TJob>> job, params Expression<Func<TEntity, object?>>[] properties)
        where TEntity : class
        where TJob : IJob => Add(builder, EntityState.Modified, job, null, [.. properties.Select(Name)]);

    /// <summary>Every delete of such an entity enqueues this job, in the same SaveChanges; it sees the entity's last values.</summary>
    /// <typeparam name="TEntity">The entity, or a base type of it.</typeparam>
    /// <typeparam name="TJob">The job type.</typeparam>
    /// <param name="builder">The entity's configuration.</param>
    /// <param name="job">Makes the job.</param>
    /// <param name="options">Wishes for these jobs. Default: those of the kind.</param>
    /// <returns>The same builder.</returns>
    public static EntityTypeBuilder<TEntity> EnqueuesOnDelete<TEntity, TJob>(
        this EntityTypeBuilder<TEntity> builder, Expression<Func<TEntity, TJob>> job, EnqueueOptions? options = null)
        where TEntity : class
        where TJob : IJob => Add(builder, EntityState.Deleted, job, options, []);

    private static EntityTypeBuilder<TEntity> Add<TEntity, TJob>(
        EntityTypeBuilder<TEntity> builder, EntityState on, Expression<Func<TEntity, TJob>> job, EnqueueOptions? options, string[] properties)
        where TEntity : class
        where TJob : IJob
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(job);
        if (options?.Id is not null)
            throw new InvalidJobException($"A rule of {typeof(TEntity).Name} sets the id of its jobs: every job of the rule would have the same one. Leave Id null.");

        // Once per model: a rule runs for every entity that is saved.
        var factory = job.Compile();
        var rule = new JobRule(on, properties, (db, entity) =>
        {
            var outbox = OutboxDbContextExtensions.Outbox(db);
            var row = OutboxDbContextExtensions.Add(db, NewJob.CreateLate<TJob>(options, outbox), outbox);
            row.Args = null;
            return new LateJob(row, db, job.Body, () => NewJob.ArgsOf(factory((TEntity)entity), row.Id, outbox), (job.Parameters[0], entity));
        });

        if (builder.Metadata.FindAnnotation(JobRule.Annotation)?.Value is List<JobRule> rules)
            rules.Add(rule);
        else
            builder.Metadata.SetAnnotation(JobRule.Annotation, new List<JobRule> { rule });
        return builder;
    }

    private static string Name<TEntity>(Expression<Func<TEntity, object?>> property)
    {
        var body = property.Body is UnaryExpression { NodeType: ExpressionType.Convert } cast ? cast.Operand : property.Body;
        return body is MemberExpression { Expression: ParameterExpression } member
            ? member.Member.Name
            : throw new ArgumentException($"'{property}' is no property of {typeof(TEntity).Name}. Use an expression such as each => each.Name.", nameof(property));
    }
}
