import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.CompletableFuture;

/**
 * What a Java program does that was never told of HTTP versions: it offers HTTP/2 with its calls.
 * Arguments: URL, body, calls one after the other, calls at once. Prints a status and body a line.
 */
public class HttpCalls {
    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(given[0]))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(given[1]))
            .build();
        HttpResponse.BodyHandler<String> text = HttpResponse.BodyHandlers.ofString();
        for (int call = 0; call < Integer.parseInt(given[2]); call++) {
            print(client.send(request, text));
        }
        CompletableFuture<?>[] open = new CompletableFuture<?>[Integer.parseInt(given[3])];
        for (int call = 0; call < open.length; call++) {
            open[call] = client.sendAsync(request, text).thenAccept(HttpCalls::print);
        }
        CompletableFuture.allOf(open).join();
    }

    private static synchronized void print(HttpResponse<String> answer) {
        System.out.println(answer.statusCode() + " " + answer.body());
    }
}
