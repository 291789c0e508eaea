using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.Tests.Words;

public sealed class JobRegistryTests
{
    [Fact]
    public void Kinds_are_known_after_they_are_handled_by_class_or_function()
    {
        var options = new OutboxOptions().Handle<First, FirstHandler>().Handle<Second>((_, _, _) => Task.CompletedTask);
        Assert.Equal(["first", "second"], options.Registry!.Kinds);
        Assert.True(options.Registry.TryFind("first", out var registration));
        Assert.Equal("first", registration.Kind);
        Assert.False(options.Registry.TryFind("First", out _));
    }

    [Fact]
    public void Two_handlers_of_one_kind_are_refused()
    {
        var options = new OutboxOptions().Handle<First, FirstHandler>();
        var error = Assert.Throws<OutboxException>(() => options.Handle<First>((_, _, _) => Task.CompletedTask));
        Assert.Contains("Kind 'first' has a handler already", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kind_without_a_handler_is_refused_where_there_are_handlers_unless_that_is_said()
    {
        var options = new OutboxOptions().Handle<First, FirstHandler>();
        var error = Assert.Throws<UnknownJobKindException>(() => NewJob.Create(new Second(), outbox: options));
        Assert.Contains("Job 'second'", error.Message, StringComparison.Ordinal);
        Assert.Contains("Known: first", error.Message, StringComparison.Ordinal);
        Assert.Contains("AllowUnhandled", error.Message, StringComparison.Ordinal);

        Assert.Equal("second", NewJob.Create(new Second(), outbox: options.AllowUnhandled<Second>()).Kind);
        Assert.Equal("second", NewJob.Create(new Second(), outbox: new OutboxOptions()).Kind);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(2_200_000)]
    public void A_timeout_that_no_timer_can_keep_is_refused(int seconds)
    {
        var error = Assert.Throws<OutboxException>(
            () => new OutboxOptions().Handle<First, FirstHandler>(kind => kind.Timeout = TimeSpan.FromSeconds(seconds)));
        Assert.Contains("timeout of kind 'first'", error.Message, StringComparison.Ordinal);
        new OutboxOptions().Handle<First, FirstHandler>(kind => kind.Timeout = null);
    }

    [Fact]
    public void Each_module_may_add_its_own_kinds_to_the_same_options()
    {
        var services = new ServiceCollection()
            .AddOutbox(outbox => outbox.Handle<First, FirstHandler>())
            .AddOutbox(outbox => outbox.Handle<Second>((_, _, _) => Task.CompletedTask))
            .BuildServiceProvider();
        Assert.Equal(["first", "second"], services.GetRequiredService<OutboxOptions>().Registry!.Kinds);
        using var scope = services.CreateScope();
        Assert.NotNull(scope.ServiceProvider.GetService<FirstHandler>());
    }

    private sealed record First : IJob
    {
        public static string Kind => "first";
    }

    private sealed record Second : IJob
    {
        public static string Kind => "second";
    }

    private sealed class FirstHandler : IJobHandler<First>
    {
        public Task HandleAsync(First job, JobContext context, CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
