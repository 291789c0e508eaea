using System.Reflection;
using BackgroundJobs.Outbox.PostgresTests.Support;
using PublicApiGenerator;

namespace BackgroundJobs.Outbox.Tests.Architecture;

// What a package lets others call is a promise: a change of it shows here, and in the diff of a pull request.
public sealed class PublicApiTests
{
    [Theory]
    [MemberData(nameof(Packages.Names), MemberType = typeof(Packages))]
    public void The_public_surface_is_the_approved_one(string package)
    {
        var api = Assembly.Load(package).GeneratePublicApi(new ApiGeneratorOptions
        {
            // Ours is where people find it: in the namespaces of EF Core and of the host, which are left out by default.
            DenyNamespacePrefixes = [],
            IncludeAssemblyAttributes = false,
        });
        Approved.Verify(
            api.ReplaceLineEndings("\n").TrimEnd() + "\n",
            Repository.PathOf("tests", "BackgroundJobs.Outbox.Tests", "Architecture", $"{package}.approved.txt"));
    }
}
