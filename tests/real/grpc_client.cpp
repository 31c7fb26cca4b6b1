// What a client over libgrpc++ sees of the server: one line for each thing tried, "NAME ok" or what
// was wrong with it. test_cpp_client.py compiles it, and runs it against a server whose servable
// "m" answers with its input and whose servable "held" never answers.
//
//   grpc_client ADDRESS CALLS [CA.pem]
//
// CALLS is how many it makes at once on one connection.

#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "inference_v2.grpc.pb.h"
#include "ms_service.grpc.pb.h"

namespace ms = mindspore::serving::proto;
using inference::GRPCInferenceService;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using std::chrono::milliseconds;
using std::chrono::system_clock;

namespace {

std::shared_ptr<grpc::Channel> Connect(int argc, char **argv, bool impatient) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  // gRPC shares connections between channels that have the same arguments.
  arguments.SetInt("tests.number", impatient ? 1 : 0);
  if (impatient) {
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 500);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 1000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  }
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (argc > 3) {
    std::ostringstream read;
    read << std::ifstream(argv[3]).rdbuf();
    grpc::SslCredentialsOptions trusted;
    trusted.pem_root_certs = read.str();
    credentials = grpc::SslCredentials(trusted);
  }
  return grpc::CreateCustomChannel(argv[1], credentials, arguments);
}

std::string Bytes(std::size_t size, unsigned seed) {
  std::string made(size, '\0');
  for (char &byte : made) {
    seed = seed * 1664525u + 1013904223u;
    byte = static_cast<char>(seed >> 24);
  }
  return made;
}

ModelInferRequest Request(const std::string &model, const std::string &bytes) {
  ModelInferRequest request;
  request.set_model_name(model);
  auto *tensor = request.add_inputs();
  tensor->set_name("x0");
  tensor->set_datatype("UINT8");
  tensor->add_shape(static_cast<std::int64_t>(bytes.size()));
  request.add_raw_input_contents(bytes);
  return request;
}

std::string Told(const grpc::Status &status) {
  return std::to_string(status.error_code()) + " " + status.error_message();
}

using Stub = GRPCInferenceService::Stub;

// Returns what is wrong with one call of the servable that answers with its input.
std::string Echo(Stub &stub, grpc::ClientContext &context, std::size_t size, unsigned seed = 1) {
  const std::string sent = Bytes(size, seed);
  ModelInferResponse answer;
  const grpc::Status status = stub.ModelInfer(&context, Request("m", sent), &answer);
  if (!status.ok()) return Told(status);
  if (answer.raw_output_contents_size() != 1 || answer.raw_output_contents(0) != sent) {
    return "another answer than the input";
  }
  return "";
}

std::string Sizes(Stub &stub) {
  for (std::size_t size : {1u, 100u, 16379u, 16384u, 65535u, 602112u, 5000000u}) {
    grpc::ClientContext context;
    const std::string wrong = Echo(stub, context, size);
    if (!wrong.empty()) return std::to_string(size) + " bytes: " + wrong;
  }
  return "";
}

std::string Packed(Stub &stub, grpc_compression_algorithm how) {
  for (std::size_t size : {10u, 300000u}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(how);
    const std::string wrong = Echo(stub, context, size);
    if (!wrong.empty()) return std::to_string(size) + " bytes: " + wrong;
  }
  return "";
}

std::string Metadata(Stub &stub) {
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "from c++, with a comma");
  context.AddMetadata("trace-bin", std::string("\0\xff\x01", 3));
  ModelInferResponse answer;
  const grpc::Status status = stub.ModelInfer(&context, Request("m", "abc"), &answer);
  if (!status.ok()) return Told(status);
  return answer.id() == "from c++, with a comma" ? "" : "the id is " + answer.id();
}

std::string Refused(Stub &stub) {
  grpc::ClientContext context;
  ModelInferResponse answer;
  const grpc::Status status = stub.ModelInfer(&context, Request("n", "abc"), &answer);
  const auto trailers = context.GetServerTrailingMetadata();
  const auto code = trailers.find("error-code");
  if (status.error_code() != grpc::StatusCode::NOT_FOUND) return Told(status);
  if (code == trailers.end() || code->second != "unknown_servable") return "no error-code";
  return status.error_message().find("'n'") == std::string::npos ? status.error_message() : "";
}

std::string Deadline(Stub &stub) {
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() + milliseconds(200));
  ModelInferResponse answer;
  const grpc::Status status = stub.ModelInfer(&context, Request("held", "abc"), &answer);
  return status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ? "" : Told(status);
}

std::string Cancelled(Stub &stub) {
  grpc::ClientContext context;
  std::thread other([&context] {
    std::this_thread::sleep_for(milliseconds(200));
    context.TryCancel();
  });
  ModelInferResponse answer;
  const grpc::Status status = stub.ModelInfer(&context, Request("held", "abc"), &answer);
  other.join();
  return status.error_code() == grpc::StatusCode::CANCELLED ? "" : Told(status);
}

std::string Together(Stub &stub, unsigned count) {
  struct Call {
    grpc::ClientContext context;
    std::string sent;
    ModelInferResponse answer;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<ModelInferResponse>> reader;
  };
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Call>> calls;
  for (unsigned number = 0; number < count; ++number) {
    calls.push_back(std::make_unique<Call>());
    Call &call = *calls.back();
    call.sent = Bytes(1 + number % 700, number);
    call.reader = stub.AsyncModelInfer(&call.context, Request("m", call.sent), &queue);
    call.reader->Finish(&call.answer, &call.status, &call);
  }
  std::string wrong;
  for (std::size_t ended = 0; ended < calls.size(); ++ended) {
    void *tag = nullptr;
    bool ok = false;
    if (!queue.Next(&tag, &ok)) return "the queue ended";
    const Call &call = *static_cast<Call *>(tag);
    if (!call.status.ok()) {
      wrong = Told(call.status);
    } else if (call.answer.raw_output_contents(0) != call.sent) {
      wrong = "the answer of another call";
    }
  }
  queue.Shutdown();
  return wrong;
}

std::string MindSpore(ms::MSService::Stub &stub) {
  ms::PredictRequest request;
  request.mutable_servable_spec()->set_name("m");
  request.mutable_servable_spec()->set_method_name("predict");
  for (unsigned number = 0; number < 3; ++number) {
    auto &tensor = (*request.add_instances()->mutable_items())["x0"];
    tensor.set_dtype(ms::MS_UINT8);
    tensor.mutable_shape()->add_dims(8);
    tensor.set_data(Bytes(8, number));
  }
  grpc::ClientContext context;
  ms::PredictReply reply;
  const grpc::Status status = stub.Predict(&context, request, &reply);
  if (!status.ok()) return Told(status);
  if (reply.error_msg_size()) return reply.error_msg(0).error_msg();
  if (reply.instances_size() != 3) return std::to_string(reply.instances_size()) + " instances";
  for (int number = 0; number < 3; ++number) {
    const auto &items = reply.instances(number).items();
    if (items.at("x0").data() != request.instances(number).items().at("x0").data()) {
      return "another answer than the input";
    }
  }
  return "";
}

std::string KeptAlive(const std::shared_ptr<grpc::Channel> &channel) {
  const auto stub = GRPCInferenceService::NewStub(channel);
  // Nobody hears the answers to its questions unless a call is under way.
  grpc::ClientContext held;
  held.set_deadline(system_clock::now() + milliseconds(2600));
  ModelInferResponse answer;
  const grpc::Status status = stub->ModelInfer(&held, Request("held", "abc"), &answer);
  if (status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED) return Told(status);
  if (channel->GetState(false) != GRPC_CHANNEL_READY) return "the connection has gone";
  grpc::ClientContext context;
  return Echo(*stub, context, 100);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const auto channel = Connect(argc, argv, false);
  const auto stub = GRPCInferenceService::NewStub(channel);
  const auto mindspore = ms::MSService::NewStub(channel);
  const std::vector<std::pair<std::string, std::function<std::string()>>> tries = {
      {"sizes", [&] { return Sizes(*stub); }},
      {"gzip", [&] { return Packed(*stub, GRPC_COMPRESS_GZIP); }},
      {"deflate", [&] { return Packed(*stub, GRPC_COMPRESS_DEFLATE); }},
      {"metadata", [&] { return Metadata(*stub); }},
      {"refused", [&] { return Refused(*stub); }},
      {"deadline", [&] { return Deadline(*stub); }},
      {"cancelled", [&] { return Cancelled(*stub); }},
      {"together", [&] { return Together(*stub, std::stoul(argv[2])); }},
      {"mindspore", [&] { return MindSpore(*mindspore); }},
      {"kept alive", [&] { return KeptAlive(Connect(argc, argv, true)); }},
  };
  for (const auto &[name, attempt] : tries) {
    const std::string wrong = attempt();
    std::cout << name << (wrong.empty() ? " ok" : ": " + wrong) << std::endl;
  }
  return 0;
}
