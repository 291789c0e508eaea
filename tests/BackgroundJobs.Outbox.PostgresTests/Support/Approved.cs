namespace BackgroundJobs.Outbox.PostgresTests.Support;

// Compares a text with a file that a person has approved; what came is kept beside it, for a diff.
internal static class Approved
{
    public static void Verify(string text, string approvedPath)
    {
        var received = approvedPath.Contains(".approved.", StringComparison.Ordinal)
            ? approvedPath.Replace(".approved.", ".received.", StringComparison.Ordinal)
            : Path.ChangeExtension(approvedPath, ".received" + Path.GetExtension(approvedPath));
        var approved = File.Exists(approvedPath) ? File.ReadAllText(approvedPath).ReplaceLineEndings("\n") : "";
        if (approved == text)
        {
            File.Delete(received);
            return;
        }

        File.WriteAllText(received, text);
        Assert.Fail($"Not as approved. Look: diff {approvedPath} {received}. If the change is meant: mv {received} {approvedPath}");
    }
}
