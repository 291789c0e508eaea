using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text.Json;
using Npgsql;

namespace BackgroundJobs.Outbox.Benchmarks.Harness;

// A process of its own: this program in another role, or a peer under Node. It says "ready" where that matters, and one line of JSON at its end.
internal sealed class Child : IDisposable
{
    private readonly Process process;
    private readonly TaskCompletionSource ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<JsonElement> answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentQueue<string> said = new();

    private Child(ProcessStartInfo start)
    {
        start.RedirectStandardOutput = start.RedirectStandardError = start.RedirectStandardInput = true;
        process = new Process { StartInfo = start, EnableRaisingEvents = true };
        process.OutputDataReceived += (_, line) => Take(line.Data);
        process.ErrorDataReceived += (_, line) => Keep(line.Data);
        process.Exited += (_, _) => _ = EndAsync();
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    public Task Ready => ready.Task;

    public Task<JsonElement> Answer => answer.Task;

    public int Id => process.Id;

    public static Child Role(string role, string connectionString, params object[] arguments)
    {
        var self = Environment.ProcessPath!;
        var start = new ProcessStartInfo(self);
        if (Path.GetFileNameWithoutExtension(self).Equals("dotnet", StringComparison.OrdinalIgnoreCase))
            start.ArgumentList.Add(typeof(Child).Assembly.Location);
        start.ArgumentList.Add("role");
        start.ArgumentList.Add(role);
        foreach (var argument in arguments)
            start.ArgumentList.Add(FormattableString.Invariant($"{argument}"));
        start.Environment["BENCHMARK_CONNECTION"] = connectionString;
        return new Child(start);
    }

    public static Child Node(string folder, string connectionString, params object[] arguments)
    {
        var start = new ProcessStartInfo("node") { WorkingDirectory = folder };
        start.ArgumentList.Add("peer.mjs");
        foreach (var argument in arguments)
            start.ArgumentList.Add(FormattableString.Invariant($"{argument}"));
        NpgsqlConnectionStringBuilder connection = new(connectionString);
        start.Environment["PGHOST"] = connection.Host;
        start.Environment["PGPORT"] = $"{connection.Port}";
        start.Environment["PGUSER"] = connection.Username;
        start.Environment["PGPASSWORD"] = connection.Password ?? "";
        start.Environment["PGDATABASE"] = connection.Database;
        return new Child(start);
    }

    // Its last word, or an error with what it said; a child that says nothing for too long is ended.
    public async Task<JsonElement> AnswerAsync(TimeSpan atMost)
    {
        try
        {
            return await Answer.WaitAsync(atMost, TimeProvider.System);
        }
        catch (TimeoutException)
        {
            throw new InvalidOperationException($"{Describe()} did not answer within {atMost}. It said: {string.Join('\n', said)}");
        }
        finally
        {
            End();
        }
    }

    // A line on its standard input asks a role to end.
    public void Stop() => process.StandardInput.Close();

    public Task ExitAsync() => process.WaitForExitAsync();

    public void Dispose()
    {
        End();
        process.Dispose();
    }

    private void End()
    {
        try
        {
            process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }
    }

    private void Take(string? line)
    {
        if (line is null)
            return;
        if (line == "ready")
            ready.TrySetResult();
        else if (line.StartsWith('{'))
            answer.TrySetResult(JsonElement.Parse(line));
        else
            Keep(line);
    }

    private void Keep(string? line)
    {
        if (line is null)
            return;
        said.Enqueue(line);
        while (said.Count > 20)
            said.TryDequeue(out _);
    }

    private async Task EndAsync()
    {
        await process.WaitForExitAsync();
        var error = new InvalidOperationException($"{Describe()} ended with {process.ExitCode} and no answer. It said: {string.Join('\n', said)}");
        ready.TrySetException(error);
        answer.TrySetException(error);
        _ = ready.Task.Exception;
        _ = answer.Task.Exception;
    }

    private string Describe() => string.Join(' ', [process.StartInfo.FileName, .. process.StartInfo.ArgumentList]);
}
