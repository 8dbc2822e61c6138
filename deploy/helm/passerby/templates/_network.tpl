{{/* The pieces of the network policies: peers, ports, and what several components may reach. */}}

{{- define "passerby.from" }}
- podSelector:
    matchLabels:
      {{- include "passerby.selectorLabels" . | nindent 6 }}
{{- end }}

{{- define "passerby.port" }}
ports:
  - {protocol: TCP, port: {{ . }}}
{{- end }}

{{- define "passerby.dns" }}
- to:
    - namespaceSelector: {}
      podSelector:
        matchLabels:
          k8s-app: kube-dns
    # Where a cache of DNS listens on every node.
    - ipBlock:
        cidr: 169.254.20.10/32
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- define "passerby.metricsIngress" }}
{{- if .Values.monitoring.enabled }}
- {{- with .Values.networkPolicy.scrapeFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "passerby.port" 9090 | trim | nindent 2 }}
{{- end }}
{{- end }}

{{/* To the collector of traces, wherever it is. */}}
{{- define "passerby.tracingEgress" }}
{{- with .Values.tracing.endpoint }}
- {{- include "passerby.port" ((urlParse .).host | splitList ":" | last) | trim | nindent 2 }}
{{- end }}
{{- end }}

{{- define "passerby.s3Egress" }}
- {{- include "passerby.port" (include "passerby.s3Port" .) | trim | nindent 2 }}
{{- end }}

{{/* Where indexer and query call: embedder, Redis, Milvus, and S3 if need be. */}}
{{- define "passerby.galleryEgress" }}
{{- include "passerby.dns" . }}
- to:
    {{- include "passerby.from" (dict "root" . "component" "embedder") | trim | nindent 4 }}
  {{- include "passerby.port" 50051 | trim | nindent 2 }}
{{- include "passerby.redisEgress" . }}
- {{- if .Values.milvus.enabled }}
  to:
    - podSelector:
        matchLabels:
          {{- include "passerby.milvusPods" . | nindent 10 }}
  {{- include "passerby.port" 19530 | trim | nindent 2 }}
  {{- else }}
  {{- include "passerby.port" (include "passerby.milvusPort" .) | trim | nindent 2 }}
  {{- end }}
{{- if include "passerby.usesS3" . }}
{{- include "passerby.s3Egress" . }}
{{- end }}
{{- include "passerby.tracingEgress" . }}
{{- end }}

{{- define "passerby.redisEgress" }}
- {{- if .Values.redis.enabled }}
  to:
    {{- include "passerby.from" (dict "root" . "component" "redis") | trim | nindent 4 }}
  {{- end }}
  {{- include "passerby.port" (include "passerby.redisAddress" . | splitList ":" | last) | nindent 2 }}
{{- end }}

{{- define "passerby.milvusPods" -}}
app.kubernetes.io/name: {{ .Values.milvus.nameOverride | default "milvus" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "passerby.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "passerby.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "passerby.selectorLabels" . | nindent 6 }}
  # Both named: what no rule allows is denied.
  policyTypes: [Ingress, Egress]
{{- end }}
