using Microsoft.Extensions.DependencyInjection;

namespace BackgroundJobs.Outbox.Worker;

// The services of one attempt: a scope of its own, opened when the handler first asks for something.
internal sealed class HandlerServices(IServiceScopeFactory scopes) : IServiceProvider, IAsyncDisposable
{
    private readonly Lock gate = new();
    private AsyncServiceScope? scope;

    public object? GetService(Type serviceType)
    {
        lock (gate)
            scope ??= scopes.CreateAsyncScope();
        return scope.Value.ServiceProvider.GetService(serviceType);
    }

    public ValueTask DisposeAsync() => scope?.DisposeAsync() ?? ValueTask.CompletedTask;
}
